package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"mynetwork.io/mynetwork/hack/image/rootfs"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var s sources
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.StringVar(&s.mynetwork, "mynetwork", "bin/mynetwork", "the built program")
	flags.StringVar(&s.bin, "bin", "bin", "directory of the built sidecars, pause and agnhost")
	to := flags.String("out", "out", "directory for NAME.tar")
	tag := flags.String("tag", "", "tag of the first name, instead of the recipe's")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: image [flags] NAME...\nnames: %s\n", strings.Join(names(recipes(s)), " "))
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return errors.New("no image is named")
	}
	all := recipes(s)
	for _, n := range flags.Args() {
		r, ok := all[n]
		if !ok {
			return fmt.Errorf("no image %q: there are %s", n, strings.Join(names(all), ", "))
		}
		if *tag != "" {
			r.refs[0] = r.refs[0][:strings.LastIndexByte(r.refs[0], ':')+1] + *tag
		}
		digest, err := write(ctx, filepath.Join(*to, n+".tar"), r)
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
		fmt.Fprintf(out, "%s %s %s\n", filepath.Join(*to, n+".tar"), r.refs[0], digest)
	}
	return nil
}

// write builds the image and writes it as a docker archive, whole or not at all. It answers the image's digest.
func write(ctx context.Context, file string, r recipe) (string, error) {
	img, err := build(ctx, r)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	refs := map[name.Tag]v1.Image{}
	for _, ref := range r.refs {
		tag, err := name.NewTag(ref, name.StrictValidation)
		if err != nil {
			return "", err
		}
		refs[tag] = img
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	to, err := os.Create(file + ".part")
	if err != nil {
		return "", err
	}
	read, pipe := io.Pipe()
	go func() { pipe.CloseWithError(tarball.MultiWrite(refs, pipe)) }()
	err = sortTags(to, read)
	read.CloseWithError(err)
	if err := errors.Join(err, to.Close()); err != nil {
		return "", err
	}
	return digest.String(), os.Rename(file+".part", file)
}

const manifestName = "manifest.json"

// sortTags copies a docker archive with the tags of its manifest in order: the library takes them from a map.
func sortTags(to io.Writer, from io.Reader) error {
	out := tar.NewWriter(to)
	for in := tar.NewReader(from); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		content := io.Reader(in)
		if h.Name == manifestName {
			var m tarball.Manifest
			if err := json.NewDecoder(in).Decode(&m); err != nil {
				return fmt.Errorf("%s: %w", manifestName, err)
			}
			for i := range m {
				slices.Sort(m[i].RepoTags)
			}
			b, err := json.Marshal(m)
			if err != nil {
				return err
			}
			h.Size, content = int64(len(b)), bytes.NewReader(b)
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, content); err != nil {
			return err
		}
	}
}

// build makes an image of one layer. Nothing in it tells when or where it was made.
func build(ctx context.Context, r recipe) (v1.Image, error) {
	debs, err := rootfs.Machine(ctx)
	if err != nil {
		return nil, err
	}
	tree := rootfs.New(debs)
	if err := r.fill(tree); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) {
		read, write := io.Pipe()
		go func() { write.CloseWithError(tree.Write(write)) }()
		return read, nil
	}
	layer, err := tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Entrypoint, config.Config.Env, config.Config.WorkingDir = r.entry, r.env, "/"
	return mutate.ConfigFile(img, config)
}
