package scrub

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// MetaKey is the key of the value of a store that remembers how far its scrub is.
const MetaKey = "scrub"

const memoryVersion = 1

// memory is what a store remembers. Times are unix seconds, 0 is never.
type memory struct {
	Version  int     `json:"version"`
	Started  int64   `json:"started"`          // of the pass that runs, or ran last
	Running  bool    `json:"running"`          // the pass has not ended
	Asked    bool    `json:"asked,omitempty"`  // for by somebody, who waits for it
	Done     int64   `json:"done"`             // bytes read in it
	At       string  `json:"at,omitempty"`     // the last extent that was read, in hex
	Finished int64   `json:"finished"`         // end of the last whole pass
	Found    uint64  `json:"found"`            // bad areas, since the store was made
	Repaired uint64  `json:"repaired"`         // of them
	Recent   []int64 `json:"recent,omitempty"` // when bad areas were found within the last day, at most maxRecent
	Suspect  string  `json:"suspect,omitempty"`
	Areas    int     `json:"areas,omitempty"` // that made it suspected
}

// maxRecent is how many bad areas of a day are remembered one by one.
const maxRecent = 256

// day is how long a bad area counts against the disk.
const day = 24 * time.Hour

// decodeMemory reads what encode wrote. What cannot be read is as good as nothing: everything is read again.
func decodeMemory(b []byte) (m memory, err error) {
	m = memory{Version: memoryVersion}
	if len(b) == 0 {
		return m, nil
	}
	var got memory
	if err := json.Unmarshal(b, &got); err != nil {
		return m, fmt.Errorf("what the store remembers of its scrub: %w", err)
	}
	if got.Version != memoryVersion {
		return m, fmt.Errorf("what the store remembers of its scrub has version %d, this program knows %d", got.Version, memoryVersion)
	}
	return got, nil
}

func (m *memory) encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // of numbers and strings
	}
	return b
}

// cursor is the last extent that the pass has read; zero at its beginning.
func (m *memory) cursor() (x block.ExtentID) {
	b, err := hex.DecodeString(m.At)
	if err != nil || len(b) != block.ExtentIDSize {
		return x
	}
	return block.GetExtentID(b)
}

func (m *memory) setCursor(x block.ExtentID) {
	b := make([]byte, block.ExtentIDSize)
	x.Put(b)
	m.At = hex.EncodeToString(b)
}

// add counts bad areas, and gives how many there were within a day.
func (m *memory) add(now time.Time, found, repaired int) {
	m.Found += uint64(found)
	m.Repaired += uint64(repaired)
	for range min(found, maxRecent) {
		m.Recent = append(m.Recent, now.Unix())
	}
	m.recent(now)
}

// recent counts the bad areas of the last day.
func (m *memory) recent(now time.Time) int {
	from := 0
	for from < len(m.Recent) && now.Unix()-m.Recent[from] >= int64(day/time.Second) {
		from++
	}
	from = max(from, len(m.Recent)-maxRecent)
	m.Recent = append([]int64(nil), m.Recent[from:]...)
	return len(m.Recent)
}
