package house

import (
	"fmt"
	"go/ast"
	"path"
	"strings"
)

// Limits of length, in lines.
const (
	MaxFile     = 500
	MaxFunction = 60
	MaxMain     = 100
)

// Allow names exceptions of Sizes, each with its reason: "dir/file.go" for a file, "dir/file.go:Name" for a function.
type Allow map[string]string

// Docs finds packages without a comment that says what they are.
func Docs(files []*File) (out []Finding) {
	said := map[string]bool{}
	seen := map[string]string{}
	for _, f := range files {
		if f.Test || f.Generated {
			continue
		}
		key := f.Dir()
		if _, ok := seen[key]; !ok {
			seen[key] = f.Path
		}
		if f.AST.Doc == nil {
			continue
		}
		want := "Package " + f.AST.Name.Name + " "
		if f.AST.Name.Name == "main" {
			want = "Command " + path.Base(key) + " "
		}
		if !strings.HasPrefix(f.AST.Doc.Text(), want) {
			out = append(out, Finding{f.Path, fmt.Sprintf("the package comment does not begin with %q", strings.TrimSpace(want))})
		}
		said[key] = true
	}
	for key, first := range seen {
		if !said[key] {
			out = append(out, Finding{first, "no file of the package says what it is: write a package comment (job, invariants, concurrency)"})
		}
	}
	return out
}

// Sizes finds files, functions and mains that have outgrown one thing, and exceptions that are needed no more.
func Sizes(files []*File, allow Allow) (out []Finding) {
	used := map[string]bool{}
	excepted := func(key string) bool {
		_, ok := allow[key]
		used[key] = used[key] || ok
		return ok
	}
	for _, f := range files {
		if f.Generated {
			continue
		}
		limit := MaxFile
		if f.AST.Name.Name == "main" && path.Base(f.Path) == "main.go" && strings.HasPrefix(f.Path, "cmd/") {
			limit = MaxMain - 1
		}
		if f.Lines > limit && !excepted(f.Path) {
			out = append(out, Finding{f.Path, fmt.Sprintf("%d lines, at most %d: it is two things", f.Lines, limit)})
		}
		if !f.Test {
			out = append(out, functions(f, excepted)...)
		}
	}
	for key := range allow {
		if !used[key] {
			out = append(out, Finding{key, "is excepted from the limits and needs it no more: remove the exception"})
		}
	}
	return out
}

func functions(f *File, excepted func(string) bool) (out []Finding) {
	for _, d := range f.AST.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		// Lines from "func" to the closing brace.
		n := f.line(fn.End()) - f.line(fn.Type.Func) + 1
		if n > MaxFunction && !excepted(f.Path+":"+fn.Name.Name) {
			out = append(out, Finding{f.at(fn.Type.Func), fmt.Sprintf("%s has %d lines, at most %d", fn.Name.Name, n, MaxFunction)})
		}
	}
	return out
}

// Sleeps finds tests that wait for a time instead of an event.
func Sleeps(files []*File) (out []Finding) {
	for _, f := range files {
		if !f.Test {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && s.Sel.Name == "Sleep" {
				out = append(out, Finding{f.at(s.Pos()), "time.Sleep in a test: wait for the event itself, or poll it with a deadline of the whole test"})
			}
			return true
		})
	}
	return out
}
