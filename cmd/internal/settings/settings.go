package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"sigs.k8s.io/yaml"
)

// DefaultFile is read, if it is there, when no other file is named.
const DefaultFile = "/etc/mynetwork/mynetwork.yaml"

// ErrFile tells that a configuration file cannot be used.
var ErrFile = errors.New("configuration file")

// Values are all settings, under the names of Keys.
type Values struct {
	Dir     string        `mapstructure:"dir"`
	Socket  string        `mapstructure:"socket"`
	Node    string        `mapstructure:"node"`
	Output  string        `mapstructure:"output"`
	Timeout time.Duration `mapstructure:"timeout"`
	Dev     DevValues     `mapstructure:"dev"`
	Agent   AgentValues   `mapstructure:"agent"`
	Holder  HolderValues  `mapstructure:"holder"`

	Operator OperatorValues `mapstructure:"operator"`
	CSI      CSIValues      `mapstructure:"csi"`
}

// DevValues are those of "mynetwork dev".
type DevValues struct {
	Nodes    int           `mapstructure:"nodes"`
	Device   string        `mapstructure:"device"`
	Port     int           `mapstructure:"port"`
	Capacity string        `mapstructure:"capacity"`
	Cache    string        `mapstructure:"cache"`
	Patience time.Duration `mapstructure:"patience"`
}

// AgentValues are those of "mynetwork agent".
type AgentValues struct {
	Node          string        `mapstructure:"node"`
	Network       string        `mapstructure:"network"`
	Members       []string      `mapstructure:"members"`
	Layout        string        `mapstructure:"layout"`
	Stores        []string      `mapstructure:"stores"`
	Format        bool          `mapstructure:"format"`
	Dir           string        `mapstructure:"dir"`
	Listen        string        `mapstructure:"listen"`
	Control       string        `mapstructure:"control"`
	Holder        string        `mapstructure:"holder"`
	FuseTransport string        `mapstructure:"fuse-transport"`
	Registry      string        `mapstructure:"registry"`
	TLS           string        `mapstructure:"tls"`
	ControlKey    string        `mapstructure:"control-key"`
	Cluster       string        `mapstructure:"cluster"`
	Namespace     string        `mapstructure:"namespace"`
	Address       string        `mapstructure:"address"`
	CA            string        `mapstructure:"ca"`
	ControlListen string        `mapstructure:"control-listen"`
	ControlKeys   []string      `mapstructure:"control-keys"`
	Mounter       string        `mapstructure:"mounter"`
	MetricsListen string        `mapstructure:"metrics-listen"`
	Cache         string        `mapstructure:"cache"`
	Ring          string        `mapstructure:"ring"`
	CopyRate      string        `mapstructure:"copy-rate"`
	ProbeInterval time.Duration `mapstructure:"probe-interval"`
	ScrubPeriod   time.Duration `mapstructure:"scrub-period"`
	ScrubLimit    int           `mapstructure:"scrub-limit"`
	Grace         time.Duration `mapstructure:"grace"`
	Caretaker     bool          `mapstructure:"caretaker"`
	LogLevel      string        `mapstructure:"log-level"`
}

// HolderValues are those of "mynetwork holder".
type HolderValues struct {
	Socket   string        `mapstructure:"socket"`
	Patience time.Duration `mapstructure:"patience"`
}

// OperatorValues are those of "mynetwork operator".
type OperatorValues struct {
	Namespace      string `mapstructure:"namespace"`
	Image          string `mapstructure:"image"`
	HolderImage    string `mapstructure:"holder-image"`
	GuardImage     string `mapstructure:"guard-image"`
	MetricsAddress string `mapstructure:"metrics-address"`
	ProbeAddress   string `mapstructure:"probe-address"`
	LeaderElection bool   `mapstructure:"leader-election"`
	LogLevel       string `mapstructure:"log-level"`
}

// CSIValues are those of "mynetwork csi".
type CSIValues struct {
	Node       string `mapstructure:"node"`
	Namespace  string `mapstructure:"namespace"`
	Kubelet    string `mapstructure:"kubelet"`
	Run        string `mapstructure:"run"`
	Root       string `mapstructure:"root"`
	MaxVolumes int    `mapstructure:"max-volumes"`
	Socket     string `mapstructure:"socket"`
	Control    string `mapstructure:"control"`
	LogLevel   string `mapstructure:"log-level"`

	MetricsAddress string `mapstructure:"metrics-address"`
}

// Reader gathers the settings. One Reader serves one run of a command.
type Reader struct {
	v    *viper.Viper
	file string
}

// New makes a reader that knows the defaults and the environment.
func New() *Reader {
	v := viper.New()
	v.SetEnvPrefix(envPrefix)
	v.SetEnvKeyReplacer(envReplacer())
	v.AutomaticEnv()
	for _, k := range Keys() {
		v.SetDefault(k.Name, k.Default)
	}
	return &Reader{v: v}
}

// ConfigFlag adds the flag that names the file.
func (r *Reader) ConfigFlag(flags *pflag.FlagSet) {
	flags.StringVar(&r.file, "config", "", "configuration file (default: "+DefaultFile+", if it is there)")
}

// Flags adds the flags of a group of keys, all or those named, and lets them win over file and environment.
func (r *Reader) Flags(flags *pflag.FlagSet, group string, only ...string) {
	for _, k := range Keys() {
		if k.Group() != group || len(only) > 0 && !slices.Contains(only, k.Flag()) {
			continue
		}
		switch def := k.Default.(type) {
		case string:
			flags.StringP(k.Flag(), k.shorthand(), def, k.Usage)
		case int:
			flags.Int(k.Flag(), def, k.Usage)
		case bool:
			flags.Bool(k.Flag(), def, k.Usage)
		case time.Duration:
			flags.Duration(k.Flag(), def, k.Usage)
		case []string:
			flags.StringSlice(k.Flag(), def, k.Usage)
		}
	}
}

// ReadFile gives the settings of one file and the environment, without flags.
func (r *Reader) ReadFile(name string) (*Values, error) {
	r.file = name
	return r.Read(pflag.NewFlagSet("", pflag.ContinueOnError), Client)
}

// Read gives the settings. flags are those of the command that runs; group is whose flags they are, beside the client's.
func (r *Reader) Read(flags *pflag.FlagSet, group string) (*Values, error) {
	for _, k := range Keys() {
		if k.Group() != group && (k.Group() != Client || group == Agent || group == Holder || group == Operator || group == CSI) {
			continue
		}
		if f := flags.Lookup(k.Flag()); f != nil {
			if err := r.v.BindPFlag(k.Name, f); err != nil {
				return nil, err
			}
		}
	}
	if err := r.readFile(); err != nil {
		return nil, err
	}
	var v Values
	if err := r.v.UnmarshalExact(&v); err != nil {
		return nil, fmt.Errorf("settings (file, MYNETWORK_* environment and flags): %w", err)
	}
	return &v, nil
}

// readFile merges the file's keys below environment and flags.
func (r *Reader) readFile() error {
	name, named := r.file, r.file != ""
	if !named {
		name, named = os.LookupEnv(envPrefix + "_CONFIG")
	}
	if !named {
		name = DefaultFile
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	var tree map[string]any
	if err := yaml.UnmarshalStrict(b, &tree); err != nil {
		return fmt.Errorf("%w %s is no YAML of settings: %w; correct it, or move it away to go on without it", ErrFile, name, err)
	}
	if err := check(tree, ""); err != nil {
		return fmt.Errorf("%w %s: %w; \"mynetwork help configuration\" lists the keys", ErrFile, name, err)
	}
	return r.v.MergeConfigMap(tree)
}

// check refuses keys that there are not.
func check(tree map[string]any, prefix string) error {
	for name, value := range tree {
		full := prefix + name
		if sub, ok := value.(map[string]any); ok && prefix == "" && group(name) {
			if err := check(sub, full+"."); err != nil {
				return err
			}
			continue
		}
		if !slices.ContainsFunc(Keys(), func(k Key) bool { return k.Name == full }) {
			return fmt.Errorf("there is no setting %q", full)
		}
	}
	return nil
}

func group(name string) bool {
	return slices.ContainsFunc(Keys(), func(k Key) bool { return k.Group() == name && name != Client })
}

// File writes one group's values as a configuration file.
func File(group string, values map[string]any) ([]byte, error) {
	if err := check(map[string]any{group: values}, ""); err != nil {
		return nil, err
	}
	return yaml.Marshal(map[string]any{group: values})
}

// split cuts "a;x=1;y=2" into its head and its options. Options that allowed does not name are an error.
func split(s string, allowed ...string) (head string, options map[string]string, err error) {
	parts := strings.Split(s, ";")
	options = map[string]string{}
	for _, p := range parts[1:] {
		name, value, ok := strings.Cut(p, "=")
		if !ok || !slices.Contains(allowed, name) {
			return "", nil, fmt.Errorf("%q: option %q; there are %s", s, p, strings.Join(allowed, ", "))
		}
		options[name] = value
	}
	return parts[0], options, nil
}
