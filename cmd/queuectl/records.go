package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
)

// The records below are what --json writes, one a line. Each has its type in "type"; fields that are empty or false are
// left out unless recordHelp says otherwise. recordHelp is their reference, shown by --help of the commands.
var recordHelp = map[string]string{
	"receipt": "message_id, queue, receive_handle and pipe_deadline if a pipe was opened, duplicate, queue_created, " +
		"consumers (always)",
	"reply": "sequence, payload (or payload_base64 if it is no UTF-8), content_type, headers, handles, ended_handles, " +
		"source_message_id, attempt",
	"end": "reason (OK or why), last_sequence, error {code, reason, message, field, metadata}",
	"delivery": "message_id, queue, attempt, failures, payload (or payload_base64), content_type, headers, reply_to, " +
		"handles, ended_handles, lease, lease_expires_at, enqueued_at, deadline, priority, group, settled (ack, release or " +
		"none)",
	"worked": "message_id, queue, attempt, result (done, failed, retried, stopped), exit_code unless stopped, replies, " +
		"message, seconds",
	"settled":  "already, dead (always both)",
	"extended": "lease_expires_at, waiter_gone (always both)",
	"stopping": "in_flight (always)",
	"pipe":     "send_handle, receive_handle, deadline",
	"cancel":   "cancelled (always), reason",
	"outcome":  "outcome (delivered, buffered, ended, unknown), end_reason, sequence",
	"description": "state, summary, deadline, end {reason, last_sequence, error}, first_sequence, next_sequence, readers, " +
		"outside, carriers [{message_id, queue, state, position, attempts, failures, until, consumers}]",
	"queue": "name, ready, in_flight, delayed, dead, bytes, consumers, waiters, oldest_age_seconds, enqueued_total, " +
		"delivered_total, acked_total, failed_total, enqueue_rate, ack_rate, created_at, config {max_length, max_bytes, overflow, " +
		"default_expiry_seconds, lease_time_seconds, max_failures, backoff_seconds, max_backoff_seconds, group_concurrency, " +
		"paused, max_dead} (always all)",
	"statistics": "time, and the figures of a queue: name to ack_rate (always all)",
	"deleted":    "time, name (of a queue that is gone)",
	"removed":    "messages (how many, always)",
	"redriven":   "messages (how many, always)",
	"ended":      "ended (always), reason",
	"message": "message_id, state (READY, DELAYED, IN_FLIGHT or DEAD), payload (or payload_base64), payload_length (always), " +
		"content_type, headers, handle_fingerprints, enqueued_at, until, attempts, failures, priority, group, dead_reason, " +
		"history [{attempt, consumer_id, delivered_at, ended_at, message}]",
	"cluster": "time, node (that was asked), health (ok, degraded, unavailable), problems, replicas [{node, address, version, state " +
		"(relaying, restoring, serving, leaving), silent_seconds, alive, asked}], shards [{number, owner, epoch, messages, " +
		"needed_batches}], nats {server, server_version, stream, answers, answer_time_seconds, last_kept_seconds, bytes, messages, " +
		"copies, servers [{name, leader, current, offline, lag}]}, boot_epoch (always all)",
	"info": "version, protocol_version, boot_epoch, durability, durability_description, tenant, principal, now, " +
		"limits {payload_bytes, frame_bytes, batch_items, window_operations, handles, pipe_timeout_seconds, delay_seconds, " +
		"min_lease_time_seconds, max_lease_time_seconds}",
	"version": "version",
	"error":   "message, hint, exit_code, code, reason, field, outcome, retry_after_seconds, metadata",
}

// jsonHelp is the paragraph about --json of a command that writes these records.
func jsonHelp(types ...string) string {
	var b strings.Builder
	b.WriteString("With --json, standard output has one object a line; its field \"type\" is one of:\n")
	for _, t := range types {
		fmt.Fprintf(&b, "\n  %s: %s\n", t, recordHelp[t])
	}
	b.WriteString("\nand standard error, if it fails:\n\n  error: " + recordHelp["error"])
	return b.String()
}

// content is what messages and replies have in common.
type content struct {
	Payload       *string                   `json:"payload,omitempty"`
	PayloadBase64 []byte                    `json:"payload_base64,omitempty"`
	ContentType   string                    `json:"content_type,omitempty"`
	Headers       map[string]string         `json:"headers,omitempty"`
	Handles       map[string]handles.Handle `json:"handles,omitempty"`
	EndedHandles  []string                  `json:"ended_handles,omitempty"`
}

func (c *content) setPayload(payload []byte) {
	if !utf8.Valid(payload) {
		c.PayloadBase64 = payload
		return
	}
	text := string(payload)
	c.Payload = &text
}

type receiptRecord struct {
	Type          string     `json:"type"`
	MessageID     string     `json:"message_id"`
	Queue         string     `json:"queue"`
	ReceiveHandle string     `json:"receive_handle,omitempty"`
	PipeDeadline  *time.Time `json:"pipe_deadline,omitempty"`
	Duplicate     bool       `json:"duplicate,omitempty"`
	QueueCreated  bool       `json:"queue_created,omitempty"`
	Consumers     int        `json:"consumers"`
}

func newReceiptRecord(queue string, r client.Receipt) *receiptRecord {
	return &receiptRecord{
		Type: "receipt", MessageID: r.MessageID, Queue: queue, ReceiveHandle: r.ReceiveHandle.Text(),
		PipeDeadline: optionalTime(r.PipeDeadline), Duplicate: r.Duplicate, QueueCreated: r.QueueCreated, Consumers: r.Consumers,
	}
}

type replyRecord struct {
	Type     string `json:"type"`
	Sequence uint64 `json:"sequence"`
	content
	SourceMessageID string `json:"source_message_id,omitempty"`
	Attempt         uint32 `json:"attempt,omitempty"`
}

func newReplyRecord(r client.Reply) *replyRecord {
	record := &replyRecord{
		Type: "reply", Sequence: r.Sequence, SourceMessageID: r.SourceMessageID, Attempt: r.Attempt,
		content: content{ContentType: r.ContentType, Headers: r.Headers, Handles: r.Handles, EndedHandles: r.EndedHandles},
	}
	record.setPayload(r.Payload)
	return record
}

type endRecord struct {
	Type         string         `json:"type"`
	Reason       string         `json:"reason"`
	LastSequence uint64         `json:"last_sequence"`
	Error        *failureRecord `json:"error,omitempty"`
}

func newEndRecord(e *client.EndError) *endRecord {
	return &endRecord{Type: "end", Reason: string(e.Reason), LastSequence: e.LastSequence, Error: newFailureRecord(e.Err)}
}

// failureRecord is a wire error.
type failureRecord struct {
	Code       string            `json:"code,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Message    string            `json:"message,omitempty"`
	Field      string            `json:"field,omitempty"`
	Outcome    string            `json:"outcome,omitempty"`
	RetryAfter float64           `json:"retry_after_seconds,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
}

func newFailureRecord(e *client.Error) *failureRecord {
	if e == nil {
		return nil
	}
	f := &failureRecord{
		Code: e.Code.String(), Reason: string(e.Reason), Message: e.Message, Field: e.Field, Metadata: e.Metadata,
		RetryAfter: e.RetryAfter.Seconds(),
	}
	switch e.Outcome {
	case client.OutcomeNotApplied:
		f.Outcome = "not applied"
	case client.OutcomeUnknown:
		f.Outcome = "unknown"
	case client.OutcomeUnspecified:
	}
	return f
}

type errorRecord struct {
	Type string `json:"type"`
	failureRecord
	Message  string `json:"message"` // the whole text, with what was being done
	Hint     string `json:"hint,omitempty"`
	ExitCode int    `json:"exit_code"`
}

func newErrorRecord(err error, hint string, code int) *errorRecord {
	r := &errorRecord{Type: "error", Message: err.Error(), Hint: hint, ExitCode: code}
	var e *client.Error
	if errors.As(err, &e) {
		r.failureRecord = *newFailureRecord(e)
	}
	return r
}

type deliveryRecord struct {
	Type      string `json:"type"`
	MessageID string `json:"message_id"`
	Queue     string `json:"queue"`
	Attempt   uint32 `json:"attempt"`
	Failures  uint32 `json:"failures,omitempty"`
	content
	ReplyTo        string     `json:"reply_to,omitempty"`
	Lease          string     `json:"lease"`
	LeaseExpiresAt *time.Time `json:"lease_expires_at,omitempty"`
	EnqueuedAt     *time.Time `json:"enqueued_at,omitempty"`
	Deadline       *time.Time `json:"deadline,omitempty"`
	Priority       int        `json:"priority,omitempty"`
	Group          string     `json:"group,omitempty"`
	Settled        string     `json:"settled"`
}

func newDeliveryRecord(d *client.Delivery, settled string) *deliveryRecord {
	record := &deliveryRecord{
		Type: "delivery", MessageID: d.MessageID, Queue: d.Queue, Attempt: d.Attempt, Failures: d.Failures,
		content: content{ContentType: d.ContentType, Headers: d.Headers, Handles: d.Handles, EndedHandles: d.EndedHandles},
		ReplyTo: d.ReplyTo().Text(), Lease: d.Lease().Text(), LeaseExpiresAt: optionalTime(d.LeaseExpiresAt),
		EnqueuedAt: optionalTime(d.EnqueuedAt), Deadline: optionalTime(d.Deadline), Priority: d.Priority, Group: d.Group,
		Settled: settled,
	}
	record.setPayload(d.Payload)
	return record
}

type workedRecord struct {
	Type      string  `json:"type"`
	MessageID string  `json:"message_id"`
	Queue     string  `json:"queue"`
	Attempt   uint32  `json:"attempt"`
	Result    string  `json:"result"`
	ExitCode  *int    `json:"exit_code,omitempty"`
	Replies   int     `json:"replies,omitempty"`
	Message   string  `json:"message,omitempty"`
	Seconds   float64 `json:"seconds"`
}

type pipeRecord struct {
	Type          string    `json:"type"`
	SendHandle    string    `json:"send_handle"`
	ReceiveHandle string    `json:"receive_handle"`
	Deadline      time.Time `json:"deadline"`
}

type cancelRecord struct {
	Type      string `json:"type"`
	Cancelled bool   `json:"cancelled"`
	Reason    string `json:"reason"`
}

type outcomeRecord struct {
	Type      string `json:"type"`
	Outcome   string `json:"outcome"`
	EndReason string `json:"end_reason,omitempty"`
	Sequence  uint64 `json:"sequence,omitempty"`
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// line is a payload as a line of text.
func line(payload []byte) string {
	text := string(payload)
	if strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// handleLines lists named handles, by name.
func handleLines(named map[string]handles.Handle) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(named)) {
		fmt.Fprintf(&b, "handle %s: %s\n", name, named[name].Text())
	}
	return b.String()
}
