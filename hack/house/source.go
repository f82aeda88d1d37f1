package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strings"
)

// Finding is one broken rule, at one place.
type Finding struct {
	Where string // file, or file:line, from the top of the tree
	What  string // what is wrong, and the reason of the rule
}

// String is the finding in one line.
func (f Finding) String() string { return f.Where + ": " + f.What }

// File is one parsed Go file.
type File struct {
	Path      string // from the top of the tree, with slashes
	Lines     int
	Generated bool
	Test      bool
	AST       *ast.File
	set       *token.FileSet
}

// Dir is the directory of the file's package.
func (f *File) Dir() string { return path.Dir(f.Path) }

func (f *File) line(p token.Pos) int { return f.set.Position(p).Line }

func (f *File) at(p token.Pos) string { return fmt.Sprintf("%s:%d", f.Path, f.line(p)) }

// imports lists the file's import paths.
func (f *File) imports() (out []string) {
	for _, s := range f.AST.Imports {
		out = append(out, strings.Trim(s.Path.Value, `"`))
	}
	return out
}

// Parse reads all Go files of a tree, but for testdata, vendor and hidden directories.
func Parse(tree fs.FS) ([]*File, error) {
	var files []*File
	set := token.NewFileSet()
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != "." && (base == "testdata" || base == "vendor" || base == "out" || base == "bin" || base[0] == '.' || base[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || base[0] == '.' || base[0] == '_' {
			return nil
		}
		b, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		a, err := parser.ParseFile(set, name, b, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, &File{
			Path: name, Lines: strings.Count(string(b), "\n"), Generated: ast.IsGenerated(a),
			Test: strings.HasSuffix(base, "_test.go"), AST: a, set: set,
		})
		return nil
	})
	return files, err
}
