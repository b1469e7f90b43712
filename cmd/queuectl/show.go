package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
)

type describeCmd struct {
	Handle handleArg `arg:"" help:"A receive handle, a send handle (which sees less), or a lease."`
}

// Help is shown by describe --help.
func (describeCmd) Help() string { return jsonHelp("description") }

// Run describes.
func (c *describeCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	d, err := a.client.Describe(a.ctx, c.Handle.handle)
	if err != nil {
		return err
	}
	record := newDescriptionRecord(d)
	if a.JSON {
		a.emit(record)
		return nil
	}
	a.print(record.text())
	return nil
}

type descriptionRecord struct {
	Type          string          `json:"type"`
	State         string          `json:"state"`
	Summary       string          `json:"summary"`
	Deadline      *time.Time      `json:"deadline,omitempty"`
	End           *endRecord      `json:"end,omitempty"`
	FirstSequence uint64          `json:"first_sequence,omitempty"`
	NextSequence  uint64          `json:"next_sequence,omitempty"`
	Readers       uint32          `json:"readers,omitempty"`
	Outside       bool            `json:"outside,omitempty"`
	Carriers      []carrierRecord `json:"carriers,omitempty"`
}

type carrierRecord struct {
	MessageID string     `json:"message_id,omitempty"`
	Queue     string     `json:"queue,omitempty"`
	State     string     `json:"state,omitempty"`
	Position  uint64     `json:"position,omitempty"`
	Attempts  uint32     `json:"attempts,omitempty"`
	Failures  uint32     `json:"failures,omitempty"`
	Until     *time.Time `json:"until,omitempty"`
	Consumers uint32     `json:"consumers,omitempty"`
}

func newDescriptionRecord(d *queuepb.DescribeResponse) *descriptionRecord {
	r := &descriptionRecord{
		Type: "description", State: strings.TrimPrefix(d.GetState().String(), "WAIT_STATE_"), Summary: d.GetSummary(),
		Deadline: wireTime(d.GetDeadline()), FirstSequence: d.GetFirstSequence(), NextSequence: d.GetNextSequence(),
		Readers: d.GetReaders(), Outside: d.GetOutside(),
	}
	if end := d.GetEnd(); end != nil {
		r.End = &endRecord{
			Type: "end", Reason: strings.TrimPrefix(end.GetReason().String(), "END_REASON_"), LastSequence: end.GetLastSequence()}
		if e := end.GetError(); e != nil {
			r.End.Error = &failureRecord{
				Code: fmt.Sprint(e.GetCode()), Reason: e.GetReason(), Message: e.GetMessage(), Metadata: e.GetMetadata()}
		}
	}
	for _, c := range d.GetCarriers() {
		r.Carriers = append(r.Carriers, carrierRecord{
			MessageID: c.GetMessageId(), Queue: c.GetQueue(), State: strings.TrimPrefix(c.GetState().String(), "MESSAGE_STATE_"),
			Position: c.GetPosition(), Attempts: c.GetAttempts(), Failures: c.GetFailures(), Until: wireTime(c.GetUntil()),
			Consumers: c.GetConsumers(),
		})
	}
	return r
}

func (r *descriptionRecord) text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintf(w, "state\t%s\nsummary\t%s\n", r.State, r.Summary)
	if r.Deadline != nil {
		fmt.Fprintf(w, "deadline\t%s\n", r.Deadline.Local().Format(time.RFC3339))
	}
	if r.End != nil {
		fmt.Fprintf(w, "end\t%s\n", r.End.Reason)
	}
	if r.NextSequence > 0 {
		fmt.Fprintf(w, "replies\t%d, kept from %d on\nreaders\t%d\n", r.NextSequence-1, r.FirstSequence, r.Readers)
	}
	for _, c := range r.Carriers {
		fmt.Fprintf(w, "carrier\t%s\n", c.text())
	}
	if r.Outside {
		fmt.Fprintf(w, "outside\tsomebody may hold a copy of the send handle\n")
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}

func (c *carrierRecord) text() string {
	words := []string{c.State}
	if c.MessageID != "" {
		words = append(words, "message "+c.MessageID, "in "+c.Queue)
	}
	if c.Position > 0 {
		words = append(words, fmt.Sprintf("behind %d others", c.Position))
	}
	if c.Attempts > 0 {
		words = append(words, fmt.Sprintf("attempt %d", c.Attempts))
	}
	if c.Until != nil {
		words = append(words, "until "+c.Until.Local().Format(time.RFC3339))
	}
	return strings.Join(words, ", ")
}

type infoCmd struct{}

// Help is shown by info --help.
func (infoCmd) Help() string { return jsonHelp("info") }

// Run shows the server.
func (infoCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	r := newInfoRecord(a.info)
	if a.JSON {
		a.emit(r)
		return nil
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintf(w, "server\t%s\nversion\t%s (client %s)\n", a.Server, r.Version, version)
	fmt.Fprintf(w, "durability\t%s: %s\nboot\t%s\n", r.Durability, r.DurabilityDescription, r.BootEpoch)
	fmt.Fprintf(w, "tenant\t%s\nprincipal\t%s\n", r.Tenant, r.Principal)
	fmt.Fprintf(w, "payload\tat most %d bytes\nhandles\tat most %d in a message\n", r.Limits.PayloadBytes, r.Limits.Handles)
	_ = w.Flush() // a strings.Builder takes everything
	a.print(b.String())
	return nil
}

type infoRecord struct {
	Type                  string     `json:"type"`
	Version               string     `json:"version"`
	ProtocolVersion       uint32     `json:"protocol_version"`
	BootEpoch             string     `json:"boot_epoch"`
	Durability            string     `json:"durability"`
	DurabilityDescription string     `json:"durability_description"`
	Tenant                string     `json:"tenant"`
	Principal             string     `json:"principal"`
	Now                   *time.Time `json:"now,omitempty"`
	Limits                limits     `json:"limits"`
}

type limits struct {
	PayloadBytes     uint64  `json:"payload_bytes"`
	FrameBytes       uint64  `json:"frame_bytes"`
	BatchItems       uint32  `json:"batch_items"`
	WindowOperations uint32  `json:"window_operations"`
	Handles          uint32  `json:"handles"`
	PipeTimeout      float64 `json:"pipe_timeout_seconds"`
	Delay            float64 `json:"delay_seconds"`
	MinLeaseTime     float64 `json:"min_lease_time_seconds"`
	MaxLeaseTime     float64 `json:"max_lease_time_seconds"`
}

func newInfoRecord(p *queuepb.GetServerInfoResponse) *infoRecord {
	l := p.GetLimits()
	return &infoRecord{
		Type: "info", Version: p.GetVersion(), ProtocolVersion: p.GetProtocolVersion(), BootEpoch: p.GetBootEpoch(),
		Durability:            strings.ToLower(strings.TrimPrefix(p.GetDurability().String(), "DURABILITY_")),
		DurabilityDescription: p.GetDurabilityDescription(), Tenant: p.GetTenant(), Principal: p.GetPrincipal(),
		Now: wireTime(p.GetNow()),
		Limits: limits{
			PayloadBytes: l.GetPayloadBytes(), FrameBytes: l.GetFrameBytes(), BatchItems: l.GetBatchItems(),
			WindowOperations: l.GetWindowOperations(), Handles: l.GetHandles(),
			PipeTimeout: l.GetPipeTimeout().AsDuration().Seconds(), Delay: l.GetDelay().AsDuration().Seconds(),
			MinLeaseTime: l.GetMinLeaseTime().AsDuration().Seconds(), MaxLeaseTime: l.GetMaxLeaseTime().AsDuration().Seconds(),
		},
	}
}

func wireTime(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	return optionalTime(t.AsTime())
}
