package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestMain takes the settings of whoever runs the tests out of the environment.
func TestMain(m *testing.M) {
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, envPrefix+"_") {
			_ = os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

// read reads settings as a command of a group would, with a file and flags.
func read(t *testing.T, file, group string, args ...string) (*Values, error) {
	t.Helper()
	r := New()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	r.ConfigFlag(flags)
	r.Flags(flags, group)
	if group == Dev {
		r.Flags(flags, Client, "dir")
	}
	if file != "" {
		args = append(args, "--config", file)
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return r.Read(flags, group)
}

func TestLaterSourcesWin(t *testing.T) {
	t.Setenv("MYNETWORK_CONFIG", os.DevNull)
	file := write(t, "dir: /from/file\ndev:\n  nodes: 5\n  port: 7000\n  patience: 2m\n", 0o600)
	t.Setenv("MYNETWORK_DEV_PORT", "8000")
	t.Setenv("MYNETWORK_DEV_NODES", "6")
	v, err := read(t, file, Dev, "--nodes", "7")
	if err != nil {
		t.Fatal(err)
	}
	if v.Dir != "/from/file" || v.Dev.Nodes != 7 || v.Dev.Port != 8000 || v.Dev.Patience != 2*time.Minute || v.Dev.Device != "fuse" {
		t.Errorf("%+v", v)
	}
}

func TestListsFromEverywhere(t *testing.T) {
	t.Setenv("MYNETWORK_CONFIG", os.DevNull)
	want := []string{"n1@127.0.0.1:1", "n2@127.0.0.1:2;zone=b;weight=3"}
	list := strings.Join(want, ",")
	file := write(t, "agent:\n  members:\n  - "+strings.Join(want, "\n  - ")+"\n", 0o600)
	for name, c := range map[string]struct {
		file, env string
		args      []string
	}{"file": {file: file}, "variable": {env: list}, "flag": {args: []string{"--members", list}}} {
		t.Run(name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("MYNETWORK_AGENT_MEMBERS", c.env)
			}
			v, err := read(t, c.file, Agent, c.args...)
			if err != nil || !reflect.DeepEqual(v.Agent.Members, want) {
				t.Fatalf("%v, %v", v, err)
			}
			m, err := Members(v.Agent.Members)
			if err != nil || len(m) != 2 || m[1].Zone != "b" || m[1].Weight != 3 || m[1].Address != "127.0.0.1:2" {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	for name, text := range map[string]string{
		"no yaml":       "dir: [",
		"binary":        "\x00\x01\x02",
		"a list":        "- a\n- b\n",
		"unknown key":   "dri: /x\n",
		"unknown below": "dev:\n  node: 3\n",
		"twice":         "dir: /a\ndir: /b\n",
		"wrong kind":    "dev:\n  nodes: many\n",
		"group scalar":  "dev: 3\n",
	} {
		v, err := read(t, write(t, text, 0o600), Dev)
		if err == nil {
			t.Errorf("%s: accepted as %+v", name, v)
		}
		if strings.Contains(fmt.Sprint(err), "panic") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := read(t, "/nonexistent/file", Dev); !errors.Is(err, ErrFile) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestKeysAreTheValues tells that the documented list and the struct have the same keys with fitting types.
func TestKeysAreTheValues(t *testing.T) {
	have := map[string]reflect.Type{}
	var walk func(prefix string, s reflect.Type)
	walk = func(prefix string, s reflect.Type) {
		for i := range s.NumField() {
			f := s.Field(i)
			name := prefix + f.Tag.Get("mapstructure")
			if f.Type.Kind() == reflect.Struct {
				walk(name+".", f.Type)
				continue
			}
			have[name] = f.Type
		}
	}
	walk("", reflect.TypeFor[Values]())
	for _, k := range Keys() {
		if got := have[k.Name]; got != reflect.TypeOf(k.Default) {
			t.Errorf("key %s has a default of type %T and a field of type %v", k.Name, k.Default, got)
		}
		if k.Usage == "" {
			t.Errorf("key %s is not documented", k.Name)
		}
		delete(have, k.Name)
	}
	for name := range have {
		t.Errorf("%s is no documented key", name)
	}
}

func TestEncryptionKey(t *testing.T) {
	hex := strings.Repeat("0f", 32)
	raw := strings.Repeat("\x0f", 32)
	for name, text := range map[string]string{"hexadecimal": hex, "with a line's end": hex + "\n", "raw": raw} {
		key, err := EncryptionKey(write(t, text, 0o600))
		if err != nil || string(key) != raw {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
	}{"short": {"0f0f", 0o600}, "long": {hex + "0f", 0o600}, "no digits": {strings.Repeat("zz", 32), 0o600}, "readable by all": {hex, 0o644}, "empty": {"", 0o600}} {
		_, err := EncryptionKey(write(t, c.text, c.mode))
		if !errors.Is(err, ErrKey) || strings.Contains(err.Error(), "0f0f") {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv(KeyVariable, hex)
	if key, err := EncryptionKey(""); err != nil || string(key) != raw {
		t.Errorf("from the variable: %v", err)
	}
	t.Setenv(KeyVariable, "")
	if key, err := EncryptionKey(""); err != nil || key != nil {
		t.Errorf("none: %v, %v", key, err)
	}
}

func TestFileReadsBack(t *testing.T) {
	t.Setenv("MYNETWORK_CONFIG", os.DevNull)
	b, err := File(Agent, map[string]any{"node": "n1", "stores": []string{"/a;capacity=4096"}, "format": true})
	if err != nil {
		t.Fatal(err)
	}
	v, err := New().ReadFile(write(t, string(b), 0o600))
	if err != nil || v.Agent.Node != "n1" || !v.Agent.Format || len(v.Agent.Stores) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := File(Agent, map[string]any{"nodee": "n1"}); err == nil {
		t.Error("a key that is not there was written")
	}
}
