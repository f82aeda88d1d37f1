package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Facts is a report without its figures, which an agent writes every five minutes at most, and which nobody has to act on at once: used space,
// counts, what was scrubbed. That there is something at all is a fact.
func (s *AgentStatus) Facts() *AgentStatus {
	out := s.DeepCopy()
	if out == nil {
		return nil
	}
	out.Copies, out.MissingCopies, out.LastCopies = min(s.Copies, 1), min(s.MissingCopies, 1), min(s.LastCopies, 1)
	for _, list := range []*[]string{&out.LastVolumes, &out.LeavingVolumes, &out.UnplacedVolumes} {
		*list = make([]string, min(len(*list), 1)) // which ones they are is a figure
	}
	for i := range out.Stores {
		f := &out.Stores[i]
		f.Used, f.Data, f.LastScrubbed, f.ErrorsFound, f.ErrorsRepaired = nil, nil, metav1.Time{}, 0, 0
		if f.Capacity != nil { // that it is known is a fact
			f.Capacity = resource.NewQuantity(1, resource.BinarySI)
		}
	}
	return out
}
