package enrol

import (
	"os"
	"path/filepath"

	"mynetwork.io/mynetwork/nodeagent/agent/atomicfile"
)

const (
	keyFile  = "tls.key"
	certFile = "tls.crt"
	nextFile = "tls.crt.next"
)

// pair is a certificate and its key, in PEM.
type pair struct{ cert, key []byte }

// write replaces the pair on disk: see the package's comment.
func (p pair) write(dir string) error {
	for _, f := range []struct {
		name string
		b    []byte
	}{{nextFile, p.cert}, {keyFile, p.key}, {certFile, p.cert}} {
		if err := atomicfile.Write(filepath.Join(dir, f.name), f.b); err != nil {
			return err
		}
	}
	return nil
}

// readPairs lists the pairs that may be on disk, the best first.
func readPairs(dir string) (out []pair) {
	key, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil
	}
	for _, name := range []string{certFile, nextFile} {
		if cert, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			out = append(out, pair{cert, key})
		}
	}
	return out
}
