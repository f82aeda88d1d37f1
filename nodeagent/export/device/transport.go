package device

import (
	"context"
	"errors"

	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/uring"
)

// outlives is why a kept device does not use io_uring.
const outlives = "the device must outlive its server, and over io_uring a killed server takes requests with it"

// demandedReason is why a device has the transport that was asked for.
const demandedReason = "it was demanded"

// choose picks a new device's transport where none is demanded, and says why.
func choose(kept bool, offered error) (fuse.Transport, string) {
	switch {
	case kept:
		return fuse.DevFuse, outlives
	case offered != nil:
		return fuse.DevFuse, offered.Error()
	default:
		return fuse.Uring, "the device ends with its server anyway, and io_uring takes half the CPU for small requests"
	}
}

// start starts the server. A transport that was demanded and cannot be had is an error; one that was chosen is not.
func (d *Device) start(ctx context.Context) error {
	o := d.opt.Fuse
	chosen := o.Transport == ""
	d.reason = demandedReason
	if chosen {
		o.Transport, d.reason = choose(d.opt.Keeper != nil, fuse.OffersUring())
	}
	d.srv = fuse.New(d.fd, d.conn, d.back, o)
	err := d.srv.Start()
	if chosen && errors.Is(err, uring.ErrUnavailable) {
		o.Transport, d.reason = fuse.DevFuse, err.Error()
		d.srv = fuse.New(d.fd, d.conn, d.back, o)
		err = d.srv.Start()
	}
	if d.serving = err == nil; d.serving {
		err = d.srv.Ready(ctx)
	}
	if err != nil {
		return err
	}
	d.transport, err = d.srv.Transport()
	if err != nil && !chosen {
		return err
	}
	if err != nil {
		d.reason = err.Error()
	}
	return nil
}

// Transport is how the kernel's requests come, and why so: people are told, and tests.
func (d *Device) Transport() (t fuse.Transport, reason string) { return d.transport, d.reason }
