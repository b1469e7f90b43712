package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
)

type messagesCmd struct {
	Queue        string `arg:"" help:"The queue."`
	State        string `placeholder:"STATE" enum:"any,ready,delayed,in-flight,dead" default:"any" help:"Only messages in this state: ready, delayed, in-flight or dead."`
	Max          int    `placeholder:"N" default:"100" help:"Show at most so many (${default})."`
	PayloadBytes uint32 `placeholder:"N" help:"How many bytes of each payload to show. Default 1024; at most 65536."`
}

// Help is shown by messages --help.
func (messagesCmd) Help() string { return jsonHelp("message") }

// Run lists messages.
func (c *messagesCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	n := 0
	for m, err := range a.client.Messages(a.ctx, c.Queue, states[c.State], c.PayloadBytes) {
		if err != nil {
			return err
		}
		if n++; n > c.Max {
			a.note("there are more: --max shows them")
			break
		}
		record := newMessageRecord(m)
		if a.JSON {
			a.emit(record)
			continue
		}
		a.print(record.text(m.GetPayload()))
	}
	if n == 0 && !a.JSON {
		a.note("no messages")
	}
	return nil
}

type messageRecord struct {
	Type      string `json:"type"`
	MessageID string `json:"message_id"`
	State     string `json:"state"`
	content
	PayloadLength      uint64            `json:"payload_length"`
	HandleFingerprints map[string]string `json:"handle_fingerprints,omitempty"`
	EnqueuedAt         *time.Time        `json:"enqueued_at,omitempty"`
	Until              *time.Time        `json:"until,omitempty"`
	Attempts           uint32            `json:"attempts,omitempty"`
	Failures           uint32            `json:"failures,omitempty"`
	Priority           uint32            `json:"priority,omitempty"`
	Group              string            `json:"group,omitempty"`
	DeadReason         string            `json:"dead_reason,omitempty"`
	History            []attemptRecord   `json:"history,omitempty"`
}

type attemptRecord struct {
	Attempt     uint32     `json:"attempt"`
	ConsumerID  string     `json:"consumer_id,omitempty"`
	DeliveredAt *time.Time `json:"delivered_at,omitempty"`
	EndedAt     *time.Time `json:"ended_at,omitempty"`
	Message     string     `json:"message"`
}

func newMessageRecord(m *queuepb.MessageInfo) *messageRecord {
	r := &messageRecord{
		Type: "message", MessageID: m.GetMessageId(), State: strings.TrimPrefix(m.GetState().String(), "MESSAGE_STATE_"),
		content:       content{ContentType: m.GetContentType(), Headers: m.GetHeaders()},
		PayloadLength: m.GetPayloadLength(), HandleFingerprints: m.GetHandleFingerprints(),
		EnqueuedAt: wireTime(m.GetEnqueuedAt()), Until: wireTime(m.GetUntil()), Attempts: m.GetAttempts(),
		Failures: m.GetFailures(), Priority: m.GetPriority(), Group: m.GetGroup(),
	}
	if m.GetDeadReason() != 0 {
		r.DeadReason = strings.TrimPrefix(m.GetDeadReason().String(), "END_REASON_")
	}
	r.setPayload(m.GetPayload())
	for _, h := range m.GetHistory() {
		r.History = append(r.History, attemptRecord{
			Attempt: h.GetAttempt(), ConsumerID: h.GetConsumerId(), DeliveredAt: wireTime(h.GetDeliveredAt()),
			EndedAt: wireTime(h.GetEndedAt()), Message: h.GetMessage(),
		})
	}
	return r
}

// text is a line of facts, the payload, and a line for each attempt.
func (r *messageRecord) text(payload []byte) string {
	words := []string{r.MessageID, r.State}
	if r.DeadReason != "" {
		words = append(words, r.DeadReason)
	}
	if r.Until != nil {
		preposition := "until "
		if r.DeadReason != "" {
			preposition = "since "
		}
		words = append(words, preposition+r.Until.Local().Format(time.RFC3339))
	}
	if r.Priority > 0 {
		words = append(words, fmt.Sprintf("priority %d", r.Priority))
	}
	if r.Group != "" {
		words = append(words, "group "+r.Group)
	}
	if r.Attempts > 0 {
		words = append(words, fmt.Sprintf("%d attempts, %d failed", r.Attempts, r.Failures))
	}
	for _, name := range slices.Sorted(maps.Keys(r.HandleFingerprints)) {
		words = append(words, name+" #"+r.HandleFingerprints[name])
	}
	var b strings.Builder
	b.WriteString(strings.Join(words, ", ") + "\n")
	for text := range strings.Lines(line(payload)) {
		b.WriteString("  " + text)
	}
	if n := uint64(len(payload)); n < r.PayloadLength {
		fmt.Fprintf(&b, "  (the first %d of %d bytes)\n", n, r.PayloadLength)
	}
	for _, h := range r.History {
		fmt.Fprintf(&b, "  attempt %d by %s: %s\n", h.Attempt, h.ConsumerID, h.Message)
	}
	return b.String()
}

type deleteMessagesCmd struct {
	Queue string   `arg:"" help:"The queue."`
	ID    []string `arg:"" name:"id" help:"Ids of messages."`
}

// Help is shown by delete-messages --help.
func (deleteMessagesCmd) Help() string { return jsonHelp("removed") }

// Run deletes messages.
func (c *deleteMessagesCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	n, err := a.client.DeleteMessages(a.ctx, c.Queue, c.ID...)
	if err != nil {
		return err
	}
	a.removed(n)
	return nil
}

type redriveCmd struct {
	Queue string   `arg:"" help:"The queue whose dead messages to put back."`
	ID    []string `arg:"" optional:"" name:"id" help:"Ids of messages. Default: all dead ones."`
	To    string   `placeholder:"QUEUE" help:"The queue to put them into. Default: the same."`
}

// Help is shown by redrive --help.
func (redriveCmd) Help() string { return jsonHelp("redriven") }

// Run redrives messages.
func (c *redriveCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	n, err := a.client.RedriveMessages(a.ctx, c.Queue, c.To, c.ID...)
	if err != nil {
		return err
	}
	if a.JSON {
		a.emit(&removedRecord{Type: "redriven", Messages: n})
		return nil
	}
	a.print(fmt.Sprintf("redriven %d\n", n))
	return nil
}

type endCmd struct {
	Subject string `arg:"" name:"handle-or-id" help:"Either handle of the pipe, or the id of a message: the pipe that awaits its answer."`
	Why     string `arg:"" optional:"" help:"Why, for those who wait."`
}

// Help is shown by end --help.
func (endCmd) Help() string { return jsonHelp("ended") }

// Run revokes a pipe.
func (c *endCmd) Run(a *app) error {
	var handle handleArg
	if strings.HasPrefix(c.Subject, "qh1") || strings.HasPrefix(c.Subject, "@") {
		if err := handle.UnmarshalText([]byte(c.Subject)); err != nil {
			return usageError(err.Error())
		}
	}
	if err := a.connect(); err != nil {
		return err
	}
	ended, reason, err := a.endPipe(handle.handle, c.Subject, c.Why)
	if err != nil {
		return err
	}
	if a.JSON {
		a.emit(&endedRecord{Type: "ended", Ended: ended, Reason: string(reason)})
		return nil
	}
	if ended {
		a.print("ended\n")
		return nil
	}
	a.print(fmt.Sprintf("had ended before: %s\n", reason))
	return nil
}

func (a *app) endPipe(handle handles.Handle, id, why string) (bool, client.Reason, error) {
	if handle.IsZero() {
		return a.client.EndPipeOf(a.ctx, id, why)
	}
	return a.client.EndPipe(a.ctx, handle, why)
}

type endedRecord struct {
	Type   string `json:"type"`
	Ended  bool   `json:"ended"`
	Reason string `json:"reason"`
}
