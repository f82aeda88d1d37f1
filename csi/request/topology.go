package request

// TopologyPrefix begins the label of a node on which the agent of a network is ready; the network's name ends it.
const TopologyPrefix = "topology.mynetwork.io/"

// TopologyValue is the value of that label.
const TopologyValue = "true"
