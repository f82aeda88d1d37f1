// Package driver implements the services of the Container Storage Interface.
package driver
