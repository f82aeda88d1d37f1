package house

import (
	"go/ast"
	"slices"
	"strings"
)

// Module is the import path of this repository.
const Module = "mynetwork.io/mynetwork"

// A floor says what the packages below a directory may not import, and why.
type floor struct {
	under  []string              // directories from the top; a package is under one if it is it or lies below it
	except []string              // directories below them that the floor does not bind
	bad    func(imp string) bool // of an import path; own packages are given without the module, as "./nodeagent/disk"
	reason string
}

// own tells whether imp is one of this repository's packages below one of dirs.
func own(imp string, dirs ...string) bool {
	rest, ok := strings.CutPrefix(imp, "./")
	return ok && under(rest, dirs)
}

func under(dir string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return dir == d || strings.HasPrefix(dir, d+"/") })
}

// std tells whether imp belongs to the standard library: its first element has no dot.
func std(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}

func kubernetes(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return first == "k8s.io" || first == "sigs.k8s.io" && imp != "sigs.k8s.io/yaml"
}

// impure are packages of the standard library that bring a clock, a goroutine, chance, a log or the world outside.
var impure = []string{"context", "crypto/rand", "io/ioutil", "log", "math/rand", "net", "os", "runtime", "sync", "syscall", "time"}

var floors = []floor{
	{
		under: []string{"nodeagent/core"},
		bad: func(imp string) bool {
			return !own(imp, "nodeagent/core") && !std(imp) && imp != "github.com/zeebo/blake3"
		},
		reason: "core imports only core, the standard library and blake3: it must be testable without a machine around it",
	},
	{
		under:  []string{"nodeagent/core"},
		bad:    func(imp string) bool { return under(imp, impure) },
		reason: "core has no I/O, clock, goroutine, chance, log or context: time enters as ticks, effects leave as values",
	},
	{
		under:  []string{"nodeagent"},
		except: []string{"nodeagent/agent"},
		bad:    func(imp string) bool { return kubernetes(imp) || own(imp, "api/v1alpha1") },
		reason: "below agent, nodeagent knows no Kubernetes: the data path runs without it",
	},
	{
		under:  []string{"nodeagent"},
		bad:    func(imp string) bool { return own(imp, "cmd", "csi", "controllers") },
		reason: "nodeagent is the floor that cmd, csi and controllers stand on, never the other way round",
	},
	{
		under: []string{"nodeagent/disk", "nodeagent/peer", "nodeagent/task"},
		bad: func(imp string) bool {
			return own(imp, "nodeagent") && !own(imp, "nodeagent/core", "nodeagent/disk", "nodeagent/peer", "nodeagent/task")
		},
		reason: "files, wires and tasks lie below the store and the engine and know neither",
	},
	{
		under:  []string{"nodeagent/export"},
		bad:    func(imp string) bool { return own(imp, "nodeagent") && !own(imp, "nodeagent/export", "nodeagent/core") },
		reason: "a front end serves whatever is a Backend: it knows no engine, store or peer",
	},
	{
		under:  []string{"nodeagent/store", "nodeagent/cache", "nodeagent/replica", "nodeagent/volume"},
		bad:    func(imp string) bool { return own(imp, "nodeagent/agent", "nodeagent/sim", "nodeagent/export") },
		reason: "only agent and sim put store, engine and front ends together",
	},
	{
		under:  []string{"csi"},
		bad:    func(imp string) bool { return own(imp, "nodeagent", "controllers") },
		reason: "the CSI driver talks to the agent by the control protocol alone, so that either can be upgraded under the other",
	},
	{
		under: []string{"controllers"},
		bad: func(imp string) bool {
			return own(imp, "nodeagent") && !own(imp, "nodeagent/core/placement", "nodeagent/core/warrant")
		},
		reason: "of nodeagent, controllers use only core/placement and core/warrant: the operator computes layouts, signs grants and touches no data",
	},
	{
		under:  []string{"api"},
		bad:    func(imp string) bool { return own(imp, "") || strings.HasPrefix(imp, "./") && !own(imp, "api") },
		reason: "api packages import nothing of ours: clients vendor them",
	},
	{
		under:  []string{"."},
		except: []string{"cmd", "hack"},
		bad:    func(imp string) bool { return strings.HasPrefix(imp, "github.com/spf13/") || own(imp, "cmd") },
		reason: "flags and viper live in cmd and nowhere else: below, configuration is a struct",
	},
}

// Floors finds imports that reach up, and goroutines in core. Tests may import what they need.
func Floors(files []*File) (out []Finding) {
	for _, f := range files {
		if f.Test {
			continue
		}
		for _, imp := range f.imports() {
			imp = localName(imp)
			for i := range floors {
				if binds(&floors[i], f.Dir()) && floors[i].bad(imp) {
					out = append(out, Finding{f.Path, "imports " + imp + ", but " + floors[i].reason})
				}
			}
		}
		if under(f.Dir(), []string{"nodeagent/core"}) {
			ast.Inspect(f.AST, func(n ast.Node) bool {
				if g, ok := n.(*ast.GoStmt); ok {
					out = append(out, Finding{f.at(g.Pos()), "starts a goroutine, but core is state machines in one thread"})
				}
				return true
			})
		}
	}
	return out
}

func localName(imp string) string {
	if imp == Module {
		return "./"
	}
	if rest, ok := strings.CutPrefix(imp, Module+"/"); ok {
		return "./" + rest
	}
	return imp
}

func binds(fl *floor, dir string) bool {
	if under(dir, fl.except) {
		return false
	}
	return under(dir, fl.under) || slices.Contains(fl.under, ".")
}
