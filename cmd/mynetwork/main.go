// Command mynetwork is the whole program: the servers of a node, the network of one machine, and the client.
package main

import (
	"os"

	"mynetwork.io/mynetwork/cmd/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(cli.Run(cli.Mynetwork(version))) }
