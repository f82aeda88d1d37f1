package command

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	t.Setenv("MYNETWORK_DIR", "/elsewhere")
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what runs goes on
	o := Run(ctx, t.TempDir(), time.Minute, "/bin/sh", "-c", "env | grep MYNETWORK_; pwd; echo oops >&2; exit 3")
	if o.Code != 3 || strings.Contains(o.Stdout, "elsewhere") || !strings.Contains(o.Stdout, "MYNETWORK_CONFIG=/dev/null") || !strings.Contains(o.Stdout, "TestRun") {
		t.Errorf("%+v", o)
	}
	if err := o.Err(); err == nil || !strings.Contains(err.Error(), "sh -c") || !strings.Contains(err.Error(), "code 3: oops") {
		t.Errorf("%v", err)
	}
	if o := Run(t.Context(), "", time.Minute, "/no/such"); o.Code != -1 || o.Err() == nil {
		t.Errorf("%+v", o)
	}
	if o := Run(t.Context(), "", time.Millisecond, "sleep", "60"); o.Code != -1 || !strings.Contains(o.Err().Error(), "ended after 1ms") {
		t.Errorf("%+v", o)
	}
	if o := Run(t.Context(), "", time.Minute, "true"); o.Err() != nil {
		t.Error(o.Err())
	}
}
