package nbd

import (
	"io"
	"net"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// FuzzConn plays arbitrary bytes to the server: it may end the connection, and nothing else.
func FuzzConn(f *testing.F) {
	start := be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes)
	set := append(be.AppendUint32(nil, 0), be.AppendUint32(nil, 1)...)
	set = append(append(set, be.AppendUint32(nil, uint32(len(metaContext)))...), metaContext...)
	in := appendOption(appendOption(start, optStructured, nil), optList, nil)
	in = appendOption(appendOption(in, optSetMeta, set), optGo, make([]byte, 6))
	f.Add(append([]byte(nil), in...))
	for _, q := range []request{
		{cmd: cmdWrite, off: 100, n: 3, flags: cmdFlagFUA}, {cmd: cmdRead, n: 8192}, {cmd: cmdZeroes, off: 5, n: 9000},
		{cmd: cmdTrim, n: 1 << 20}, {cmd: cmdBlockStatus, n: 1 << 20}, {cmd: cmdFlush}, {cmd: cmdWrite, n: ^uint32(0)}, {cmd: cmdDisconnect},
	} {
		in = appendRequest(in, q, make([]byte, q.n&3))
		f.Add(append([]byte(nil), in...))
	}
	m, err := exporttest.NewMemory(1<<20, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := newServer(m, Options{Name: "vol"})
		client, server := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		go func() {
			_, _ = client.Write(in)
			_ = client.Close()
		}()
		_ = s.serveConn(server)
		_ = server.Close()
		close(s.quit)
		if n := m.Pending(); n != 0 {
			t.Errorf("%d requests were accepted and not answered", n)
		}
	})
}
