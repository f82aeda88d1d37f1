package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/show"
)

// tailView is a tail as JSON and YAML show it.
type tailView struct {
	Node   string `json:"node"`
	Store  string `json:"store"`
	Extent string `json:"extent"`
	Seq    uint64 `json:"sequence"`
}

func (a *app) volumeTails() *cobra.Command {
	var req agentv1.TailsRequest
	c := &cobra.Command{Use: "tails VOLUME", Short: "List what replicas keep that a weak volume went on without", Args: cobra.ExactArgs(1),
		Long: "A weak volume answers a flush after one copy. If its replicas do not all answer when it is opened, it goes on after two minutes with\n" +
			"those that do, and data that a missing one alone had is lost to the volume (\"data loss possible\"). When that one returns, its end of\n" +
			"the journal is kept beside the volume, is listed here, and never becomes part of the volume again. The volume must be attached.\n" +
			"With --remove, what is listed is removed for ever, on all nodes that answer."}
	cmd := a.clientCommand(c, 0, func(ctx context.Context, args []string) error {
		req.Volume = args[0]
		all, done, err := a.agents(ctx)
		if err != nil {
			return err
		}
		defer done()
		agent, err := holderOf(ctx, all, args[0])
		if err != nil {
			return control.Say(err)
		}
		r, err := agent.Tails(ctx, &req)
		if err != nil {
			return control.Say(err)
		}
		list := []tailView{}
		for _, t := range r.GetTails() {
			list = append(list, tailView{t.GetNode(), t.GetStore(), t.GetExtent(), t.GetSeq()})
		}
		if req.Remove {
			a.print.Say("%d tails of volume %s are removed", len(list), args[0])
		}
		return a.print.Print(list, func(r *show.Rows) {
			r.Head = []string{"NODE", "STORE", "EXTENT", "SEQUENCE"}
			for _, t := range list {
				r.Add(t.Node, t.Store, t.Extent, fmt.Sprint(t.Seq))
			}
		})
	})
	cmd.Flags().BoolVar(&req.Remove, "remove", false, "remove what is listed, for ever")
	return cmd
}
