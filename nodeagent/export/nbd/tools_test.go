package nbd

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// tool runs a program of the Debian packages libnbd-bin, qemu-utils or fio, and fails the test without it.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The programs that people use can use the server.
func TestTools(t *testing.T) {
	const size = 32 << 20
	m := exporttest.Volume(t, size)
	s, _ := openServer(t, m, true)
	uri := "nbd+unix:///vol?socket=" + s.Path()
	dir := t.TempDir()
	file := filepath.Join(dir, "in")
	content := make([]byte, size)
	for i := 0; i < size/2; i += 3 {
		content[i] = byte(rand.Uint32())
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	info := tool(t, "nbdinfo", "--map", uri) + tool(t, "nbdinfo", uri) + tool(t, "nbdinfo", "--list", uri)
	for _, want := range []string{"hole,zero", "can_multi_conn: true", "can_fua: true", "block_size_preferred: 4096", `export="vol"`} {
		if !strings.Contains(info, want) {
			t.Errorf("nbdinfo does not say %q:\n%s", want, info)
		}
	}
	same := func(what string) {
		t.Helper()
		if !bytes.Equal(m.Bytes(), content) {
			t.Errorf("after %s the volume differs", what)
		}
	}
	tool(t, "nbdcopy", "--connections=4", "--flush", file, uri)
	same("nbdcopy")
	if m.Count(exporttest.OpFlush) == 0 {
		t.Error("nbdcopy --flush flushed nothing")
	}
	tool(t, "nbdcopy", uri, filepath.Join(dir, "out"))
	if out, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || !bytes.Equal(out, content) {
		t.Errorf("nbdcopy reads something else (%v)", err)
	}
	clear(m.Bytes())
	tool(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", file, uri)
	same("qemu-img convert")
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", file, uri)
	out := tool(t, "qemu-io", "-f", "raw", "-c", "write -P 7 512 1024", "-c", "read -P 7 512 1024", "-c", "write -z 4608 7680",
		"-c", "discard 1M 1M", "-c", "write -f -P 9 3584 512", "-c", "aio_write -P 1 64k 64k", "-c", "aio_flush", "-c", "flush", uri)
	if strings.Contains(out, "verification failed") {
		t.Error(out)
	}
	copy(content[512:], bytes.Repeat([]byte{7}, 1024))
	clear(content[4608 : 4608+7680])
	clear(content[1<<20 : 2<<20])
	copy(content[3584:], bytes.Repeat([]byte{9}, 512))
	copy(content[64<<10:], bytes.Repeat([]byte{1}, 64<<10))
	same("qemu-io")
	for _, bs := range []string{"4k", "512"} {
		tool(t, "fio", "--name=nbd", "--ioengine=nbd", "--uri="+uri, "--rw=randwrite", "--bs="+bs, "--iodepth=16",
			"--size=16m", "--io_size=8m", "--verify=crc32c", "--verify_fatal=1", "--fsync=64")
	}
}
