// Package monitoring tests what watches the network: alert rules and dashboards against the names that are exported, and the rules on
// series that they must, and must not, fire on. It is a module of its own for Prometheus's own parser and engine, which the product
// does not need.
package monitoring
