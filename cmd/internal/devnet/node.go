package devnet

import (
	"cmp"
	"context"
	"fmt"
	"syscall"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
)

// State is what can be seen of a node.
type State struct {
	Name      string                  `json:"name"`
	Address   string                  `json:"address"`
	Agent     int                     `json:"agentPid"`  // 0: it does not run
	Holder    int                     `json:"holderPid"` // 0: it does not run
	Answers   bool                    `json:"answers"`
	Problem   string                  `json:"problem,omitempty"`
	Capacity  int64                   `json:"capacity"`
	Used      int64                   `json:"used"`
	State     string                  `json:"state"`      // in the layout: active, draining or down
	Copies    int64                   `json:"copies"`     // of extents that its stores hold
	ToMove    int64                   `json:"toMove"`     // bytes that volumes open there have to copy yet, wherever to
	Synced    uint64                  `json:"syncedWith"` // the layout with which all volumes open there were in place
	Attached  []string                `json:"attached"`
	Stores    []Store                 `json:"stores"`
	Socket    string                  `json:"socket"`
	Directory string                  `json:"directory"`
	Status    *agentv1.StatusResponse `json:"-"`
}

// Store is what can be seen of a disk.
type Store struct {
	ID             string    `json:"id"`
	Path           string    `json:"path"`
	Capacity       int64     `json:"capacity"`
	Used           int64     `json:"used"`
	LastScrubbed   time.Time `json:"lastScrubbed,omitzero"`
	ErrorsFound    uint64    `json:"errorsFound"`
	ErrorsRepaired uint64    `json:"errorsRepaired"`
	Problem        string    `json:"problem,omitempty"`
	Clearing       string    `json:"clearing,omitempty"` // what it gets back because it is short of space
}

func storeOf(d *agentv1.Store) Store {
	s := Store{ID: d.GetId(), Path: d.GetPath(), Capacity: d.GetCapacity(), Used: d.GetUsed(), ErrorsFound: d.GetErrorsFound(), ErrorsRepaired: d.GetErrorsRepaired(),
		Problem: cmp.Or(d.GetQuarantined(), d.GetSilent()), Clearing: d.GetClearing()}
	if at := d.GetLastScrubbedUnix(); at > 0 {
		s.LastScrubbed = time.Unix(at, 0).UTC()
	}
	return s
}

// Healthy tells whether both processes run, the agent answers and takes data.
func (s *State) Healthy() bool { return s.Agent != 0 && s.Holder != 0 && s.Answers && s.Problem == "" }

// Status looks at every node. ctx bounds each question.
func (n *Network) Status(ctx context.Context) []State {
	out := make([]State, len(n.Nodes))
	states := map[string]string{}
	if l, err := n.layout(); err == nil {
		for _, m := range l.Members() {
			states[m.ID] = m.State.String()
		}
	}
	for i, m := range n.Nodes {
		out[i] = n.state(ctx, m)
		out[i].State = states[m.Name]
	}
	return out
}

// Look looks at one node. ctx bounds the question.
func (n *Network) Look(ctx context.Context, m Node) State { return n.state(ctx, m) }

func (n *Network) state(ctx context.Context, m Node) State {
	s := State{Name: m.Name, Address: m.Address, Socket: n.AgentSocket(m.Name), Directory: n.path(m.Name), Attached: []string{}, Stores: []Store{}}
	if p, ok := recorded(n.pidFile(m.Name, "holder")); ok && p.alive() {
		s.Holder = p.PID
	} else {
		s.Problem = "the holder is dead"
	}
	p, ok := recorded(n.pidFile(m.Name, "agent"))
	if !ok || !p.alive() {
		s.Problem = "the agent is dead"
		return s
	}
	s.Agent = p.PID
	a, err := control.Dial(s.Socket)
	if err != nil {
		s.Problem = err.Error()
		return s
	}
	defer a.Close()
	st, err := a.Status(ctx, &agentv1.StatusRequest{})
	if err != nil {
		s.Problem = "the agent does not answer: " + control.Say(err).Error()
		return s
	}
	s.Answers, s.Status = true, st
	c := st.GetCounters()
	s.ToMove, s.Synced = int64(c["copyBytesLeft"]), c["layoutSynced"]
	for _, d := range st.GetStores() {
		s.Capacity += d.GetCapacity()
		s.Used += d.GetUsed()
		s.Copies += d.GetExtents()
		s.Stores = append(s.Stores, storeOf(d))
		if q := d.GetQuarantined(); q != "" {
			s.Problem = "a store takes nothing: " + q
		} else if q := d.GetSilent(); q != "" && s.Problem == "" {
			s.Problem = q
		}
	}
	for _, v := range st.GetVolumes() {
		s.Attached = append(s.Attached, v.GetName())
	}
	return s
}

// KillOptions are what Kill does.
type KillOptions struct {
	Term   bool // SIGTERM, and wait; else SIGKILL
	Holder bool // also the holder: devices of the node end
}

// Kill ends a node's agent, to see what happens. It tells which processes it ended.
func (n *Network) Kill(node string, o KillOptions) (ended []string, err error) {
	if _, err := n.Node(node); err != nil {
		return nil, err
	}
	unlock, err := n.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	kinds := []string{"agent"}
	if o.Holder {
		kinds = append(kinds, "holder")
	}
	for _, kind := range kinds {
		p, ok := recorded(n.pidFile(node, kind))
		if !ok || !p.alive() {
			continue
		}
		if err := end(p, o.Term); err != nil {
			return ended, fmt.Errorf("%s of %s: %w", kind, node, err)
		}
		ended = append(ended, fmt.Sprintf("%s (pid %d)", kind, p.PID))
	}
	return ended, nil
}

func end(p process, term bool) error {
	if !term {
		return kill(p)
	}
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if !p.gone(grace) {
		return fmt.Errorf("process %d has not ended %s after SIGTERM", p.PID, grace)
	}
	return nil
}

// Start starts what does not run of a node, and waits until its agent answers.
func (n *Network) Start(ctx context.Context, node, program string, say func(string, ...any)) error {
	m, err := n.Node(node)
	if err != nil {
		return err
	}
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	err = n.launch(ctx, m, program, say)
	unlock()
	if err != nil {
		return err
	}
	return n.ready(ctx, node)
}
