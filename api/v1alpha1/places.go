package v1alpha1

// Places on a node that several programs have to agree on. UID is a MyNetwork's uid.
//
//	/run/mynetwork/UID/          root's, mode 0711: mounted in the agent and the holder
//	    name                     the MyNetwork's name
//	    control/agent.sock       the agent's control socket; the directory is the agents' user's
//	    holder/socket            the holder's; the directory is the agents' user's
//	    mounter/socket           the mounter's; root's, for the agents' group; beside it NameFigures and NameLacks
//	/run/mynetwork/devices/UID/  root's, mode 0700: FUSE mounts. Not below UID, or each new agent would get a copy of all mounts
//	PATH/UID/store, agent        the agents' user's: data, by the MyNetwork's spec.storage.path
const (
	// PlaceRun has a directory for each network, and PlaceDevices.
	PlaceRun = "/run/mynetwork"
	// PlaceDevices, below PlaceRun, has a directory of mounts for each network.
	PlaceDevices = "devices"

	// PlaceName, PlaceControl, PlaceHolder and PlaceMounter lie in a network's directory below PlaceRun.
	PlaceName    = "name"
	PlaceControl = "control/agent.sock"
	PlaceHolder  = "holder/socket"
	PlaceMounter = "mounter/socket"
	// NameFigures is the socket beside the mounter's that shows the node plugin's metrics to the agent.
	NameFigures = "figures"
	// NameLacks is a file beside the mounter's socket, by which the node plugin tells the agent what the node lacks to attach volumes: a line
	// "REASON: what it lacks, and what to do" for each. It is there, if empty, once the plugin has looked.
	NameLacks = "lacks"

	// AgentUser is the user and the group that agents and holders run as.
	AgentUser = 64646

	// PortPeers, PortControl and PortMetrics are those of an agent.
	PortPeers   = 7400
	PortControl = 7401
	PortMetrics = 7402

	// ControlSecret has a certificate, a key and a bundle of authorities for each network, by which the CSI controller reaches
	// agents: UID.crt, UID.key and UID.ca.
	ControlSecret = "mynetwork-csi-control"
)
