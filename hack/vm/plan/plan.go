// Package plan is what hack/vm tells the first process of its virtual machine, and what that one answers on the console.
package plan

// Path is where the plan lies in the machine, as JSON.
const Path = "/plan"

// What the first process says, each at the start of a line: a program begins, has ended with a code, all have, or nothing goes on.
const (
	Begins = "vm: begins"
	Ended  = "vm: ended"
	Done   = "vm: done"
	Failed = "vm: failed:"
)

// Plan is what the machine does before it is turned off.
type Plan struct {
	Modules  []string // files of kernel modules, in the order in which they are loaded
	Programs []Program
}

// Program is one program, run as root.
type Program struct {
	Name string
	Path string
	Args []string
	Env  []string
}
