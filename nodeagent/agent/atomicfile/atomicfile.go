// Package atomicfile writes small files that are there whole or not at all, also after a power cut. Write is safe for concurrent use;
// of two writers of one file, one wins.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Write makes a file whole and durable, or leaves the one that was there. Its mode is 0600.
func Write(name string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // it has another name by then, if all went well
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
