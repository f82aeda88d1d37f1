package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// chart packages the chart with the release's version for itself and for the image.
func (r Release) chart(ctx context.Context, dir string) (Part, error) {
	cmd := exec.CommandContext(ctx, r.Helm, "package", filepath.Join(r.Top, "charts/mynetwork"), "--version", r.Version, "--app-version", r.Version, "--destination", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return Part{}, fmt.Errorf("helm package: %w (make helm builds it)\n%s", err, out)
	}
	name := "mynetwork-" + r.Version + ".tgz"
	packed, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return Part{}, err
	}
	text, err := timeless(packed, r.Date)
	if err != nil {
		return Part{}, fmt.Errorf("%s: %w", name, err)
	}
	return Part{Name: "mynetwork-chart", File: name}, os.WriteFile(filepath.Join(dir, name), text, 0o644)
}

// timeless packs a .tgz again, all of one date: Helm writes the time at which it packs.
func timeless(packed []byte, date time.Time) ([]byte, error) {
	unzip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	zip.Extra, zip.Comment = unzip.Extra, unzip.Comment // by these Helm says that it is a chart
	from, to := tar.NewReader(unzip), tar.NewWriter(zip)
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		h = &tar.Header{Name: h.Name, Mode: 0o644, Typeflag: h.Typeflag, Size: h.Size, ModTime: date, Format: tar.FormatPAX}
		if err := to.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.Copy(to, from); err != nil {
			return nil, err
		}
	}
	if _, err := io.Copy(io.Discard, unzip); err != nil { // its end has the checksum
		return nil, err
	}
	err = errors.Join(to.Close(), zip.Close())
	return out.Bytes(), err
}
