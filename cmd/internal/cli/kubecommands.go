package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mynetwork.io/mynetwork/cmd/internal/inspect"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/cmd/internal/size"
)

func (a *app) kubeStatus() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show how networks, nodes and volumes of the cluster are",
		Long: "Show how networks, nodes and volumes of the cluster are, and all that is not as it should be. It exits with 3 if there is such."}
	return a.kubeCommand(c, func(_ context.Context, _ *way, f *inspect.Facts, _ []string) error {
		s := f.Status()
		err := a.print.Print(s, func(r *show.Rows) {
			r.Add("NETWORK", "READY", "ACTIVITY", "NODES", "CAPACITY", "VOLUMES", "LAYOUT")
			for _, n := range s.Networks {
				r.Add(n.Name, n.Ready, n.Activity, n.Nodes, n.Capacity, fmt.Sprint(n.Volumes), fmt.Sprint(n.Layout))
			}
			r.Add()
			r.Add("NODE", "NETWORK", "ZONE", "READY", "USED", "COPIES", "MISSING", "PRESSURE")
			for _, n := range s.Nodes {
				r.Add(n.Name, n.Network, n.Zone, n.Ready, n.Used, fmt.Sprint(n.Copies), fmt.Sprint(n.Missing), n.Pressure)
			}
		})
		if err != nil {
			return err
		}
		a.sayFindings(s.Findings)
		for _, h := range s.Hidden {
			a.say("not seen: %s", h)
		}
		switch {
		case len(s.Networks) == 0 && len(s.Hidden) == 0:
			a.say("there is no network: kubectl apply a MyNetwork; three lines are enough")
		case !s.Healthy():
			return fmt.Errorf("%d findings: %w", len(s.Findings), ErrUnhealthy)
		}
		return nil
	})
}

// sayFindings writes findings for a person, below a table.
func (a *app) sayFindings(list []inspect.Finding) {
	for _, x := range list {
		a.print.Say("\n%s: %s", x.Object, x.What)
		if x.Do != "" {
			a.print.Say("  -> %s", x.Do)
		}
	}
}

func (a *app) kubeExplain() *cobra.Command {
	c := &cobra.Command{Use: "explain VOLUME|pvc/CLAIM|pod/POD", Short: "Say why a volume, claim or pod is not well, and what to do", Args: cobra.ExactArgs(1),
		Long: "Say why a volume, claim or pod is not well, what to do, and who is waited for. A volume is named by its PersistentVolume, its handle, its\n" +
			"name or its id. It exits with 3 if something is not well."}
	return a.kubeCommand(c, func(_ context.Context, w *way, f *inspect.Facts, args []string) error {
		list, err := f.Explain(args[0], w.namespace)
		if err != nil {
			return err
		}
		if err := a.print.Print(list, func(*show.Rows) {}); err != nil {
			return err
		}
		a.sayFindings(list)
		for _, x := range list {
			if x.Bad {
				return fmt.Errorf("%s: %w", args[0], ErrUnhealthy)
			}
		}
		return nil
	})
}

func (a *app) kubeEvents() *cobra.Command {
	return a.kubeCommand(&cobra.Command{Use: "events", Short: "Tell what happened, oldest first"}, func(_ context.Context, _ *way, f *inspect.Facts, _ []string) error {
		type event struct {
			At     string `json:"at"`
			Type   string `json:"type"`
			Object string `json:"object"`
			Text   string `json:"text"`
		}
		list := []event{}
		for _, e := range f.Story() {
			at, kind, object, text := inspect.Line(e)
			list = append(list, event{at, kind, object, text})
		}
		return a.print.Print(list, func(r *show.Rows) {
			r.Head = []string{"AT", "TYPE", "OBJECT", "WHAT"}
			for _, e := range list {
				r.Add(e.At, e.Type, e.Object, e.Text)
			}
		})
	})
}

func (a *app) kubePlacement() *cobra.Command {
	c := &cobra.Command{Use: "placement VOLUME", Short: "Show which nodes hold a volume", Args: cobra.ExactArgs(1),
		Long: "Show what the stores of all nodes hold of a volume, and the writer's epoch that each has promised. It asks each agent in its pod: it needs the\n" +
			"right to create pods/exec in MyNetwork's namespace."}
	return a.kubeCommand(c, func(ctx context.Context, w *way, f *inspect.Facts, args []string) error {
		id, network, err := f.VolumeID(args[0], w.namespace)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, a.values.Timeout)
		defer cancel()
		list := []heldView{}
		var errs []error
		asked := 0
		for _, p := range agentPods(f) {
			if inspect.NetworkOf(p) != network {
				continue
			}
			text, err := w.Run(ctx, p.Namespace, p.Name, "agent", "/mynetwork", "placement", id, "-o", "json", "--socket", inspect.AgentSocket)
			var held []heldView
			if err == nil {
				err = json.Unmarshal(text, &held)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			asked++
			list = append(list, held...)
		}
		if asked == 0 {
			return errors.Join(append(errs, errNoAgents)...)
		}
		for _, err := range errs {
			a.say("not seen: %v", err)
		}
		return a.print.Print(list, func(r *show.Rows) {
			r.Head = []string{"NODE", "STORE", "EXTENTS", "DATA", "JOURNAL", "PROMISED"}
			for _, h := range list {
				r.Add(h.Node, h.Store, fmt.Sprint(h.Extents), size.Format(h.Data), size.Format(h.Log), h.Promised)
			}
		})
	})
}

func (a *app) kubeBundle() *cobra.Command {
	var name string
	c := &cobra.Command{Use: "support-bundle", Short: "Collect what somebody from afar needs to help",
		Long: "Write a compressed tar of findings, MyNetwork's objects, events, and logs, metrics and reports of its pods. No Secret is read, and what\n" +
			"looks like a key or a token is taken out of texts; names of claims, nodes and namespaces are in it. Look at it before you send it."}
	c.Flags().StringVar(&name, "file", "", "file to write, which must not be there (default: mynetwork-support-TIME.tar.gz)")
	return a.kubeCommand(c, func(ctx context.Context, w *way, f *inspect.Facts, _ []string) error {
		if name == "" {
			name = "mynetwork-support-" + strings.ReplaceAll(f.Now.UTC().Format(time.RFC3339), ":", "") + ".tar.gz"
		}
		out, err := create(name)
		if err != nil {
			return err
		}
		if err := errors.Join(inspect.Bundle(ctx, out, f, w.reader, w), out.Close()); err != nil {
			return err
		}
		a.print.Say("%s", name)
		return nil
	})
}
