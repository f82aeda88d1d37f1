package agent

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"encoding/binary"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
)

// format is a constant that says the version of something that outlives a process.
type format struct {
	file, name string // of the constant, below the repository
	open       bool   // golden networks have it
	kept       string // else: golden bytes of it
	why        string // else: why there are none
}

// goldenFormats are all versioned formats: those of disks, which golden networks have, and those of messages and of what a holder keeps,
// whose golden bytes lie beside their code. A constant that is raised, and one that is new, fails TestFormatsAreGolden until there is one.
var goldenFormats = map[string]format{
	"store":             {file: "nodeagent/store/codec.go", name: "formatVersion", open: true},
	"registry":          {file: "nodeagent/registry/codec.go", name: "version", open: true},
	"layout":            {file: "nodeagent/core/placement/encode.go", name: "Format", open: true},
	"journal record":    {file: "nodeagent/core/journal/record.go", name: "Version", open: true},
	"checkpoint":        {file: "nodeagent/core/journal/checkpoint.go", name: "checkpointVersion", open: true},
	"block":             {file: "nodeagent/core/block/block.go", name: "Version", open: true},
	"scrub memory":      {file: "nodeagent/agent/scrub/memory.go", name: "memoryVersion", open: true},
	"history of a log":  {file: "nodeagent/core/journal/history.go", name: "historyVersion", kept: "nodeagent/core/journal/testdata/history.txt"},
	"ring":              {file: "nodeagent/volume/ring/ring.go", name: "version", kept: "nodeagent/volume/ring/testdata/ring.txt"},
	"peer protocol":     {file: "nodeagent/peer/frame.go", name: "newestVersion", kept: "nodeagent/peer/testdata/golden.txt"},
	"holder protocol":   {file: "nodeagent/export/holder/wire.go", name: "MaxVersion", kept: "nodeagent/export/holder/testdata/entry.golden"},
	"mounter protocol":  {file: "nodeagent/export/mounter/wire.go", name: "MaxVersion", why: "processes of one release speak it; make mixed runs it"},
	"loop record":       {file: "nodeagent/export/mounter/loops.go", name: "recordVersion", why: "it ends with the mount; an unknown one is found by the kernel's own words"},
	"device entry":      {file: "nodeagent/export/device/device.go", name: "metaVersion", why: "versions 1 to 3 are written, and read by TestTransportIsKept and TestUblkIsKept; make mixed runs it"},
	"ublk table":        {file: "nodeagent/export/ublk/table.go", name: "tableVersion", kept: "nodeagent/export/ublk/testdata/table.golden"},
	"volume entry":      {file: "nodeagent/agent/volumes/front.go", name: "metaVersion", why: "a holder's entry, as JSON; make mixed runs it"},
	"reader entry":      {file: "nodeagent/agent/readers/device.go", name: "metaVersion", why: "a holder's entry, as JSON"},
	"members message":   {file: "nodeagent/agent/members/wire.go", name: "version", why: "a message, answered in the version that is asked for: TestVersions; make mixed runs it"},
	"warden's word":     {file: "nodeagent/agent/caretaker/word.go", name: "wordVersion", why: "a message; who does not know it answers so, and nothing depends on it; make mixed runs it"},
	"node's history":    {file: "nodeagent/agent/history/history.go", name: "format", why: "a day of figures: an unknown one is left out"},
	"memory of stores":  {file: "nodeagent/agent/stores/grant.go", name: "memoryFormat", why: "four fields of JSON, refused by TestNewerIsRefused's words"},
	"directory":         {file: "nodeagent/agent/cluster/directory/directory.go", name: "fileFormat", why: "a cache of what the API has"},
	"anchor in objects": {file: "nodeagent/agent/cluster/registry/codec.go", name: "anchorVersion", why: "in the API's objects, refused when it is unknown"},
}

const repository = "../.."

// integer gives a constant of a file.
func integers(t *testing.T, file string) map[string]int {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	check(t, err)
	out := map[string]int{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			for i, n := range v.Names {
				if i < len(v.Values) {
					if lit, ok := v.Values[i].(*ast.BasicLit); ok && lit.Kind == token.INT {
						out[n.Name], _ = strconv.Atoi(lit.Value)
					}
				}
			}
		}
	}
	return out
}

func (f format) version(t *testing.T) int {
	t.Helper()
	v, ok := integers(t, filepath.Join(repository, f.file))[f.name]
	if !ok {
		t.Fatalf("%s has no constant %s", f.file, f.name)
	}
	return v
}

// uncovered lists what keeps formats from being golden. versions are those of the code.
func uncovered(t *testing.T, versions map[string]int, all map[string]golden) (problems []string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		f := goldenFormats[name]
		if !f.open {
			continue
		}
		if !slices.ContainsFunc(slices.Collect(maps.Values(all)), func(g golden) bool { return g.Formats[name] == versions[name] }) {
			problems = append(problems, name+" "+strconv.Itoa(versions[name]))
		}
	}
	return problems
}

// TestFormatsAreGolden: each version of each format has a golden network, or bytes.
func TestFormatsAreGolden(t *testing.T) {
	all, versions := goldens(t), map[string]int{}
	for name, f := range goldenFormats {
		versions[name] = f.version(t)
		if f.kept != "" {
			if _, err := os.Stat(filepath.Join(repository, f.kept)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if !f.open && f.kept == "" && f.why == "" {
			t.Errorf("%s has no golden network, no golden bytes and no reason", name)
		}
	}
	for _, p := range uncovered(t, versions, all) {
		t.Errorf("no golden network has %s: make golden NAME=..., and keep the old ones", p)
	}
	for name := range versions { // the control
		versions[name]++
	}
	if n := len(uncovered(t, versions, all)); n < 7 {
		t.Errorf("raised versions: %d are missed", n)
	}
}

// TestFormatsAreListed: a constant whose name says that it is a version is in the table.
func TestFormatsAreListed(t *testing.T) {
	known, found := map[string]bool{}, 0
	for _, f := range goldenFormats {
		known[f.file+" "+f.name] = true
	}
	others := regexp.MustCompile(`registry/codec.go version(Grown|Lost|Extra|Plain)|MinVersion|oldestVersion|API|Linux|minimum`)
	is := regexp.MustCompile(`(?i)(version|format)$`)
	check(t, filepath.WalkDir(filepath.Join(repository, "nodeagent"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(repository, path)
		check(t, err)
		for name := range integers(t, path) {
			switch key := rel + " " + name; {
			case !is.MatchString(name) || others.MatchString(key):
			case known[key]:
				found++
			default:
				t.Errorf("%s is a version, for all that its name says, and not in the table of formats", key)
			}
		}
		return nil
	}))
	if found != len(goldenFormats) {
		t.Errorf("%d constants were found, %d are in the table", found, len(goldenFormats))
	}
}

// raise gives an envelope of a store the next version, with the checksum that it needs.
func raise(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	check(t, err)
	le, magic := binary.LittleEndian, string(b[:4])
	for at := 0; at+16 <= len(b); at += 4096 {
		if string(b[at:at+4]) != magic {
			continue
		}
		e := b[at:]
		le.PutUint32(e[4:], le.Uint32(e[4:])+1)
		table := crc32.MakeTable(crc32.Castagnoli)
		le.PutUint32(e[12:], crc32.Update(crc32.Checksum(e[:12], table), table, e[16:16+le.Uint32(e[8:])]))
	}
	check(t, os.WriteFile(file, b, 0o600))
}

func footerOf(t *testing.T, dir string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "a/disk/ext/*/*.ftr"))
	check(t, err)
	if len(list) == 0 {
		t.Fatal("no extent of node a has a footer")
	}
	return list[0]
}

// tree is the sums of all files of a store.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = sumOf(b)
		return err
	}))
	return out
}

// TestNewerIsRefused: an agent that meets what a later version wrote says so, and changes nothing.
func TestNewerIsRefused(t *testing.T) {
	g, was := goldens(t)["v1"], unpack(t, "v1")
	for what, spoil := range map[string]func(dir string){
		"superblock": func(dir string) { raise(t, filepath.Join(dir, "a/disk/superblock")) },
		"state":      func(dir string) { raise(t, filepath.Join(dir, "a/disk/state")) },
		"footer":     func(dir string) { raise(t, footerOf(t, dir)) },
		"layout": func(dir string) {
			b, err := os.ReadFile(filepath.Join(dir, "layout"))
			check(t, err)
			b[4]++
			check(t, os.WriteFile(filepath.Join(dir, "layout"), b, 0o600))
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			check(t, os.CopyFS(dir, os.DirFS(was)))
			spoil(dir)
			before := tree(t, filepath.Join(dir, "a/disk"))
			c := g.open(t, was, func(string) {})
			c.stop("a")
			cfg := c.node["a"].cfg
			cfg.Stores[0].Path, cfg.Layout = filepath.Join(dir, "a/disk"), filepath.Join(dir, "layout")
			a, err := New(cfg)
			check(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { // one that starts is ended: it has not refused
				select {
				case <-a.Ready():
					cancel()
				case <-ctx.Done():
				}
			}()
			if err := a.Run(ctx); err == nil || !strings.Contains(err.Error(), "newer version of this program") {
				t.Fatalf("the agent ended with: %v", err)
			}
			if after := tree(t, filepath.Join(dir, "a/disk")); !maps.Equal(before, after) {
				t.Error("files of the store were changed")
			}
		})
	}
	t.Run("registry", func(t *testing.T) {
		var file string
		c := g.open(t, was, func(dir string) {
			list, err := filepath.Glob(filepath.Join(dir, "registry", "*.json"))
			check(t, err)
			file = list[0]
			b, err := os.ReadFile(file)
			check(t, err)
			var e map[string]json.RawMessage
			check(t, json.Unmarshal(b, &e))
			e["version"] = json.RawMessage("9")
			b, err = json.Marshal(e)
			check(t, err)
			check(t, os.WriteFile(file, b, 0o600))
		})
		before := tree(t, file)
		_, err := c.node["a"].api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: strings.TrimSuffix(filepath.Base(file), ".json")})
		if err == nil || !strings.Contains(err.Error(), "newer version of this program") {
			t.Fatal(err)
		}
		if !maps.Equal(before, tree(t, file)) {
			t.Error("the record was changed")
		}
	})
}
