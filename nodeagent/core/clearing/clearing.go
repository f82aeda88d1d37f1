package clearing

// Stage is what is being cleared.
type Stage uint8

// The stages, in their order.
const (
	Idle         Stage = iota // there is room
	Deleted                   // what deleted volumes have left
	Unreferenced              // blocks that nothing refers to
	Surplus                   // copies beyond the least that people want
	Exhausted                 // nothing more is found; all stages come again after a pause
)

// String names the stage, in one CamelCase word.
func (s Stage) String() string {
	names := [...]string{"Idle", "Deleted", "Unreferenced", "Surplus", "Exhausted"}
	if int(s) < len(names) {
		return names[s]
	}
	return "Unknown"
}

// Words says the stage to people.
func (s Stage) Words() string {
	switch s {
	case Idle:
		return "there is room"
	case Deleted:
		return "what deleted volumes have left is freed"
	case Unreferenced:
		return "blocks that nothing refers to any more are freed"
	case Surplus:
		return "copies beyond the least that is wanted are given up"
	case Exhausted:
		return "nothing more can be freed; add a node or a disk, or delete data"
	}
	return s.String()
}

// Stages lists those that a store can be in.
func Stages() []Stage { return []Stage{Idle, Deleted, Unreferenced, Surplus, Exhausted} }

// Rules say when a store clears. Times are in seconds.
type Rules struct {
	Begin    int64 // percent of the store that are free, below which it begins
	End      int64 // percent, from which on there is room; more than Begin
	Patience int64 // a stage in which nothing is freed for so long is over
	Again    int64 // so long after the last stage the first one comes again
}

// Default are the rules of an agent that is told no others.
func Default() Rules { return Rules{Begin: 10, End: 12, Patience: 120, Again: 300} }

// Seen is a store at one moment.
type Seen struct {
	At          int64 // seconds, by a clock that does not jump
	Total, Used int64 // bytes; Total 0: not known
	Freed       uint64
	// Deletions tells that deleted volumes may have left something here.
	Deletions bool
	// Nothing tells that who works on the present stage has found nothing to free.
	Nothing bool
}

// State is what is remembered of a store. The zero value is Idle.
type State struct {
	stage Stage
	since int64  // since when nothing was freed, or of the stage's begin
	freed uint64 // Seen.Freed then
}

// Stage is the present one.
func (s *State) Stage() Stage { return s.stage }

// Step looks at a store and gives its stage.
func (s *State) Step(r Rules, in Seen) Stage { return s.step(r, in, after) }

// after is the order.
func after(s Stage) Stage { return s + 1 }

func (s *State) step(r Rules, in Seen, after func(Stage) Stage) Stage {
	free := max(in.Total-in.Used, 0)
	enter := func(to Stage) Stage {
		s.stage, s.since, s.freed = to, in.At, in.Freed
		return to
	}
	switch {
	case in.Total <= 0:
		return enter(Idle)
	case s.stage == Idle && free >= in.Total/100*r.Begin:
		return Idle
	case s.stage == Idle:
		return enter(after(Idle))
	case free >= in.Total/100*r.End:
		return enter(Idle)
	}
	if in.Freed != s.freed {
		s.since, s.freed = in.At, in.Freed
	}
	waited := in.At - s.since
	switch {
	case s.stage == Exhausted && (in.Deletions || waited >= r.Again):
		return enter(after(Idle))
	case s.stage == Exhausted:
		return s.stage
	case s.stage != Deleted && in.Deletions:
		return enter(after(Idle))
	case in.Nothing || waited >= r.Patience:
		return enter(after(s.stage))
	}
	return s.stage
}
