package grant

import "mynetwork.io/mynetwork/nodeagent/core/warrant"

// Grant and Verbs are those of package warrant, where they are drawn, signed and verified.
type (
	Grant = warrant.Grant
	Verbs = warrant.Verbs
)

// The verbs.
const (
	Read   = warrant.Read
	Write  = warrant.Write
	Attach = warrant.Attach
	Repair = warrant.Repair
	Delete = warrant.Delete
	Admin  = warrant.Admin
)
