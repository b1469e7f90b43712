package broker

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/replyq/replyq/broker/factpb"
)

// The states as the diagrams name them.
var (
	messageStates = map[messageState]string{ //nolint:gochecknoglobals // a table
		messageFree: "[*]", messageReserved: "[*]", messageReady: "ready", messageDelayed: "delayed", messageLeased: "leased",
		messageDead: "dead",
	}
	pipeStates = map[pipeState]string{ //nolint:gochecknoglobals // a table
		pipeFree: "[*]", pipeOpen: "open", pipeSpliced: "spliced", pipeEnded: "ended",
	}
)

// TestDiagramsShowWhatHappens compares the state diagrams of ARCHITECTURE.md with random histories: every change of state
// that a fact brings about is an arrow with the fact's name, and every arrow is seen.
func TestDiagramsShowWhatHappens(t *testing.T) {
	drawn := drawnChanges(t, "../ARCHITECTURE.md")
	seen := make(map[string]bool)
	for seed := uint64(1); seed <= 599 && len(seen) < len(drawn) || seed <= 59; seed += 2 { // with odd seeds nothing is trimmed
		synctest.Test(t, func(t *testing.T) {
			h := newHistory(t, seed, 1+int(seed%3))
			for range 200 {
				h.step()
			}
			h.keepFewerDead()
			h.changes(seen)
			h.close()
		})
	}
	for _, change := range slices.Sorted(maps.Keys(seen)) {
		if !drawn[change] {
			t.Errorf("this happens and is not drawn: %s", change)
		}
	}
	for _, change := range slices.Sorted(maps.Keys(drawn)) {
		if !seen[change] {
			t.Errorf("this is drawn and does not happen: %s", change)
		}
	}
}

// keepFewerDead is what the random histories seldom do: two messages die, and then only one may be kept.
func (h *history) keepFewerDead() {
	c := h.clients[0]
	do := func(r Request) {
		h.submit(c, Op{Credit: 100, Request: r})
		synctest.Wait()
		h.takeIn(c)
	}
	for range 2 {
		do(&Enqueue{Queue: "dead"})
	}
	do(&Consume{Queues: []string{"dead"}})
	for range 2 {
		do(&Settle{Lease: h.leases[len(h.leases)-1], Action: Reject})
	}
	do(&UpdateQueue{Queue: "dead", Config: QueueConfig{MaxDead: 1}, Fields: ConfigMaxDead})
}

// drawnChanges reads the arrows of a file's state diagrams: from, to, and the fact, which is the label's first word.
func drawnChanges(t *testing.T, file string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	drawn := make(map[string]bool)
	arrow := regexp.MustCompile(`(?m)^ +(\S+) --> (\S+) : (\w+)`)
	for _, diagram := range regexp.MustCompile("(?s)```mermaid\nstateDiagram-v2\n.*?```").FindAllString(string(text), -1) {
		for _, m := range arrow.FindAllStringSubmatch(diagram, -1) {
			drawn[fmt.Sprintf("%s --> %s : %s", m[1], m[2], m[3])] = true
		}
	}
	if len(drawn) == 0 {
		t.Fatal("no diagrams found")
	}
	return drawn
}

// changes replays what the journals have, fact by fact, and adds the changes of state.
func (h *history) changes(seen map[string]bool) {
	h.t.Helper()
	for i, j := range h.journals {
		st := newState(h.b.runners[i].number, h.b.store)
		before := statesOf(st)
		for record, err := range j.Read(context.Background(), 0) {
			if err != nil {
				h.t.Fatal(err)
			}
			var batch factpb.Batch
			if err := batch.UnmarshalVT(record.Batch); err != nil {
				h.t.Fatal(err)
			}
			for _, wrapped := range batch.Facts {
				f := unwrap(wrapped)
				st.apply(f)
				after := statesOf(st)
				name := fmt.Sprintf("%T", f)
				name = name[strings.LastIndex(name, ".")+1:]
				for what, to := range after {
					if from := before.of(what); from != to {
						seen[fmt.Sprintf("%s --> %s : %s", from, to, name)] = true
					}
				}
				before = after
			}
		}
	}
}

// states are those of messages, pipes and queues, each by its kind and slot or number.
type states map[string]string

func (s states) of(what string) string {
	if state, ok := s[what]; ok {
		return state
	}
	return "[*]"
}

func statesOf(st *state) states {
	all := make(states)
	for slot := uint32(1); slot <= st.messages.top; slot++ {
		m := st.messages.at(slot)
		all[fmt.Sprint("message ", slot)] = messageStates[m.state]
	}
	for slot := uint32(1); slot <= st.pipes.top; slot++ {
		all[fmt.Sprint("pipe ", slot)] = pipeStates[st.pipes.at(slot).state]
	}
	for number, q := range st.queues {
		what := fmt.Sprint("queue ", number)
		switch {
		case q == nil:
			all[what] = "[*]"
		case q.deleted:
			all[what] = "deleted"
		default:
			all[what] = "there"
		}
	}
	return all
}
