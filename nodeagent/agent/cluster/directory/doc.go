// Package directory tells an agent who is in its network: it follows the MyNetwork, whose status names the present layout, and the
// EndpointSlices of the agents' Service, which give each node's address, and brings both to the table of members.
//
// A layout's body is not in the API. It is taken from this node's disk, else asked of other nodes by its hash, until one has it. Where
// nobody has it the present layout stays in use: the operator gives a body to agents before it names it.
//
// # File
//
// directory.json in the agent's directory: format 1; the layout in use by version and hash, and the last address of each node. With it an
// agent that starts while the API is away serves as before.
//
// # Invariants
//
//  1. A layout is used only if its MyNetwork, of the right uid, named its hash, and never after a newer one. (TestLayout)
//  2. What is known stays in use while the API is away, over restarts too. (TestAway)
//  3. A MyNetwork or a Service that is gone takes nothing away: members of the layout stay known. (TestGone)
//
// Concurrency: Run is a Runnable; all else is safe for concurrent use.
package directory
