// Command kubectl-mynetwork is the client of mynetwork as kubectl's plug-in.
package main

import (
	"os"

	"mynetwork.io/mynetwork/cmd/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(cli.Run(cli.Kubectl(version))) }
