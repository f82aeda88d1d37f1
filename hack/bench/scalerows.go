package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
)

// stand is a network that one row is measured on; each row has a new one.
type stand struct {
	*bencher
	conn  *grpc.ClientConn
	first agentv1.AgentClient
}

// on makes a network, has it measured, and removes it.
func (s *scaling) on(agents int64, measure func(t *stand) error) (err error) {
	t := &stand{bencher: &bencher{ctx: s.ctx, o: s.options}}
	defer func() {
		if t.conn != nil {
			err = errors.Join(err, t.conn.Close())
		}
		err = errors.Join(err, t.cleanup())
	}()
	if err := t.network(int(agents)); err != nil {
		return err
	}
	if t.conn, err = grpc.NewClient("unix:"+filepath.Join(t.net(), "n1", "run", "agent.sock"), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return err
	}
	t.first = agentv1.NewAgentClient(t.conn)
	return measure(t)
}

// callWithin bounds a call: a device that hangs is an error, and not for ever.
const callWithin = time.Minute

// call makes a call, also when bench is interrupted: what is half made is worse than a late end.
func (t *stand) call(f func(ctx context.Context) error) (time.Duration, error) {
	if err := t.ctx.Err(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), callWithin)
	defer cancel()
	begin := time.Now()
	err := f(ctx)
	return time.Since(begin), err
}

// create makes a volume; extent is the capacity of its extents, 0 the default.
func (t *stand) create(name string, size int64) error {
	_, err := t.call(func(ctx context.Context) error {
		_, err := t.first.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: name, Size: size})
		return err
	})
	if err != nil {
		return fmt.Errorf("create volume %s: %w", name, err)
	}
	return nil
}

// attachTo attaches a volume to the first node and reads its first page, past the kernel's cache.
func (t *stand) attachTo(name string) (device string, took time.Duration, err error) {
	took, err = t.call(func(ctx context.Context) error {
		r, err := t.first.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: name, Kind: agentv1.DeviceKind_DEVICE_KIND_FUSE})
		if err != nil {
			return err
		}
		device = r.GetDevice()
		return firstPage(device)
	})
	if err != nil {
		return "", 0, fmt.Errorf("attach volume %s: %w", name, err)
	}
	return device, took, nil
}

func (t *stand) detach(name string) (time.Duration, error) {
	took, err := t.call(func(ctx context.Context) error {
		_, err := t.first.DetachVolume(ctx, &agentv1.DetachVolumeRequest{Volume: name})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("detach volume %s: %w", name, err)
	}
	return took, nil
}

// firstPage reads the first page of a device.
func firstPage(device string) (err error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	p, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned, as O_DIRECT needs
	if err != nil {
		return err
	}
	_, err = f.ReadAt(p, 0)
	return errors.Join(err, unix.Munmap(p))
}

// settles is how long an attached volume takes to rest: its first checkpoint is made 30 s after the attach (volume.checkpointAge).
const settles = 35 * time.Second

// rest watches the agents while nothing is asked of them, from when the volumes that are attached rest.
func (t *stand) rest(d time.Duration) (first, others, mean idle, err error) {
	if err := t.findNodes(); err != nil {
		return first, others, mean, err
	}
	if err := t.sleep(settles); err != nil {
		return first, others, mean, err
	}
	if _, err := t.quiet(); err != nil {
		return first, others, mean, err
	}
	before, err := t.sample()
	if err != nil {
		return first, others, mean, err
	}
	if err := t.sleep(d); err != nil {
		return first, others, mean, err
	}
	after, err := t.sample()
	first, others, mean = idleOf(before, after)
	return first, others, mean, err
}

// idleOf is what agents used between two samples: the first one, the most of the others, and the mean of all.
func idleOf(before, after sample) (first, others, mean idle) {
	agents := 0.0
	for name, u := range after.of {
		if len(name) < 6 || name[len(name)-6:] != " agent" {
			continue
		}
		i := idle{RSS: float64(u.rss) / (1 << 20), CPU: 100 * float64(u.cpu-before.of[name].cpu) / float64(after.at.Sub(before.at))}
		agents++
		mean.RSS += i.RSS
		mean.CPU += i.CPU
		if name == "n1 agent" {
			first = i
		} else {
			others = idle{max(others.RSS, i.RSS), max(others.CPU, i.CPU)}
		}
	}
	mean.RSS /= max(agents, 1)
	mean.CPU /= max(agents, 1)
	return first, others, mean
}

// loadFor is how long each load of a row lasts.
const loadFor = "4"

// speeds measures 4 KiB writes on a device, over so many bytes of it.
func (t *stand) speeds(device string, size int64) (s speeds, err error) {
	t.o.size = size
	timed := []string{"--time_based", "--runtime=" + loadFor}
	w := workloads()
	before, err := t.sample()
	if err != nil {
		return s, err
	}
	deep, err := t.fio(w[1], fuse, device, timed...)
	if err != nil {
		return s, err
	}
	after, err := t.sample()
	if err != nil {
		return s, err
	}
	if _, err := t.quiet(); err != nil {
		return s, err
	}
	lone, err := t.fio(w[0], fuse, device, timed...)
	return speeds{IOPS: deep.IOPS, CPU: float64(deep.CPU+after.cpu(before)) / float64(time.Microsecond) / deep.Ops, SyncP50: lone.Latency[0], SyncP99: lone.Latency[1]}, err
}

// stretch is how much of a volume loads write to, where its size is not what is measured.
const stretch = 256 << 20

// agentsOf measures a network of so many agents.
func (s *scaling) agentsOf(n int64) (row agentsRow, err error) {
	row.Agents = int(n)
	err = s.on(n, func(t *stand) (err error) {
		if err := t.create("v", 1<<30); err != nil {
			return err
		}
		device, _, err := t.attachTo("v")
		if err != nil {
			return err
		}
		if row.First, row.Others, row.Mean, err = t.rest(s.rest); err != nil {
			return err
		}
		row.speeds, err = t.speeds(device, stretch)
		return err
	})
	return row, err
}

// volumesOf measures so many volumes on three agents, all attached to the first one.
func (s *scaling) volumesOf(n int64) (row volumesRow, err error) {
	row.Volumes = int(n)
	err = s.on(3, func(t *stand) (err error) {
		var took, gone []float64
		device := ""
		for i := range n {
			name := "v" + strconv.FormatInt(i, 10)
			if err := t.create(name, 1<<30); err != nil {
				return err
			}
			path, d, err := t.attachTo(name)
			if err != nil {
				return fmt.Errorf("%d volumes are attached: %w", i, err)
			}
			if took = append(took, ms(d)); i == 0 {
				device = path
			}
			if (i+1)%100 == 0 {
				fmt.Fprintf(os.Stderr, "%d volumes are attached\n", i+1)
			}
		}
		row.AttachMean, row.AttachP99 = mean(took), quantile(took, .99)
		if row.First, row.Others, _, err = t.rest(s.rest); err != nil {
			return err
		}
		if row.speeds, err = t.speeds(device, stretch); err != nil {
			return err
		}
		for i := range n {
			d, err := t.detach("v" + strconv.FormatInt(i, 10))
			if err != nil {
				return err
			}
			gone = append(gone, ms(d))
		}
		row.DetachMean = mean(gone)
		return nil
	})
	return row, err
}

// sizesOf measures a thin volume of a size that holds some data: as much in one piece, and single pages all over it.
func (s *scaling) sizesOf(size int64) (row sizesRow, err error) {
	row.Size, row.Data = size, min(s.data, size)
	err = s.on(3, func(t *stand) error {
		if err := t.create("v", size); err != nil {
			return err
		}
		device, took, err := t.attachTo("v")
		if err != nil {
			return err
		}
		row.AttachEmpty = ms(took)
		t.o.size = row.Data
		if _, err := t.fill(fuse, device); err != nil {
			return err
		}
		if err := t.scatter(device, size); err != nil {
			return err
		}
		if row.speeds, err = t.speeds(device, size); err != nil {
			return err
		}
		t.o.size = row.Data
		r, err := t.fio(workloads()[2], fuse, device, "--time_based", "--runtime="+loadFor)
		if err != nil {
			return err
		}
		row.ReadP50, row.ReadP99 = r.Latency[0], r.Latency[1]
		if err := t.copies(&row); err != nil {
			return err
		}
		return t.again(&row, size)
	})
	return row, err
}

// scatter writes 64 MiB of single pages all over a device.
func (t *stand) scatter(device string, size int64) error {
	t.o.size = size
	_, err := t.fio(workload{name: "scatter", write: true, args: []string{"--rw=randwrite", "--bs=4k", "--iodepth=32", "--io_size=64m", "--end_fsync=1"}}, fuse, device)
	return err
}

// copies measures memory, a snapshot and a clone.
func (t *stand) copies(row *sizesRow) error {
	calm, err := t.quiet()
	if err != nil {
		return err
	}
	first, others, _ := idleOf(calm, calm)
	row.First, row.Others = first.RSS, others.RSS
	took, err := t.call(func(ctx context.Context) error {
		_, err := t.first.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "v", Name: "s"})
		return err
	})
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	row.Snapshot = ms(took)
	clone := func(name string) (float64, error) {
		took, err := t.call(func(ctx context.Context) error {
			_, err := t.first.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "v", Snapshot: "s", Name: name})
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("clone: %w", err)
		}
		return ms(took), nil
	}
	if row.Clone, err = clone("copy"); err != nil {
		return err
	}
	if _, took, err = t.attachTo("copy"); err != nil {
		return err
	}
	row.CloneOpen = ms(took)
	if row.CloneAgain, err = clone("another"); err != nil {
		return err
	}
	_, err = t.detach("copy")
	return err
}

// again attaches the volume after a detach, and after its node was killed with all that it held.
func (t *stand) again(row *sizesRow, size int64) error {
	if _, err := t.detach("v"); err != nil {
		return err
	}
	device, took, err := t.attachTo("v")
	if err != nil {
		return err
	}
	row.AttachClean = ms(took)
	if err := t.scatter(device, size); err != nil {
		return err
	}
	if _, err := t.my("node", "kill", "n1", "--holder"); err != nil {
		return err
	}
	if err := t.startNode("n1"); err != nil {
		return err
	}
	if _, took, err = t.attachTo("v"); err != nil {
		return fmt.Errorf("after a crash: %w", err)
	}
	row.AttachCrash = ms(took)
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mean(list []float64) (sum float64) {
	for _, v := range list {
		sum += v
	}
	return sum / float64(max(len(list), 1))
}
