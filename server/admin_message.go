package server

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// ListMessages implements the RPC.
func (s *adminService) ListMessages(
	ctx context.Context, req *queuepb.ListMessagesRequest,
) (*queuepb.ListMessagesResponse, error) {
	if err := checkQueue(req.Queue, "queue"); err != nil {
		return nil, err
	}
	list, refused := listMessages(req)
	if refused != nil {
		return nil, refused
	}
	shown := int(req.PayloadBytes)
	if shown == 0 {
		shown = defaultShownPayload
	}
	found, err := ask[*broker.MessageList](ctx, s, list)
	if err != nil {
		return nil, err
	}
	out := &queuepb.ListMessagesResponse{}
	size := 0
	for i := range found.Messages {
		m := &found.Messages[i]
		info, err := s.messageInfo(m, shown)
		if err != nil {
			return nil, err
		}
		if size += info.SizeVT(); size > maxListBytes && i > 0 {
			out.NextPageToken = messagePageToken(found.Messages[i-1].Cursor)
			return out, nil
		}
		out.Messages = append(out.Messages, info)
	}
	if found.More {
		out.NextPageToken = messagePageToken(found.Next)
	}
	return out, nil
}

// listMessages checks and converts all but the queue's name.
func listMessages(req *queuepb.ListMessagesRequest) (*broker.ListMessages, *broker.Error) {
	state, err := messageState(req.State, "state")
	if err != nil {
		return nil, err
	}
	if req.PageSize > maxPage {
		return nil, refuse(reasonPageInvalid, "page_size", fmt.Sprintf("use at most %d", maxPage))
	}
	if req.PayloadBytes > maxShownPayload {
		return nil, refuse(reasonPageInvalid, "payload_bytes", fmt.Sprintf("use at most %d", maxShownPayload))
	}
	after, err := parseMessagePageToken(req.PageToken)
	if err != nil {
		return nil, err
	}
	limit := int(req.PageSize)
	if limit == 0 {
		limit = defaultPage
	}
	return &broker.ListMessages{Queue: strings.Clone(req.Queue), State: state, After: after, Limit: limit}, nil
}

// messageInfo shows a message. Tokens are not shown, wherever they stand.
func (s *adminService) messageInfo(m *broker.MessageInfo, shown int) (*queuepb.MessageInfo, error) {
	var stored queuepb.Message
	if err := stored.UnmarshalVT(m.Body); err != nil {
		return nil, err // unreachable: the server encoded it
	}
	out := &queuepb.MessageInfo{
		MessageId: m.Message.String(), State: queuepb.MessageState(m.State), Payload: maskedPayload(stored.Payload, shown),
		PayloadLength: uint64(len(stored.Payload)), ContentType: stored.ContentType, EnqueuedAt: newTime(m.EnqueuedAt),
		Until: newTime(m.Until), Attempts: m.Attempts, Failures: m.Failures, Priority: uint32(m.Priority), Group: m.Group,
		DeadReason: queuepb.EndReason(m.DeadReason),
	}
	for name, value := range stored.Headers {
		if out.Headers == nil {
			out.Headers = make(map[string]string, len(stored.Headers))
		}
		out.Headers[name] = string(mask([]byte(value)))
	}
	prints := make(map[string]string)
	if m.ReplyTo.Kind != 0 {
		prints["reply_to"] = s.keys.Mint(m.ReplyTo).Fingerprint()
	} else if stored.ReplyTo != nil {
		prints["reply_to"] = fingerprint(stored.ReplyTo)
	}
	for name, h := range stored.Handles {
		prints[name] = fingerprint(h)
	}
	if len(prints) > 0 {
		out.HandleFingerprints = prints
	}
	for _, a := range m.History {
		out.History = append(out.History, &queuepb.AttemptInfo{
			Attempt: a.Attempt, ConsumerId: a.ConsumerID, DeliveredAt: newTime(a.DeliveredAt), EndedAt: newTime(a.EndedAt),
			Message: a.Text,
		})
	}
	return out, nil
}

func fingerprint(h *queuepb.Handle) string {
	parsed, err := handles.Parse(h.Token)
	if err != nil {
		return "" // unreachable: checked when it came
	}
	return parsed.Fingerprint()
}

// tokens are handles that stand in text.
var tokens = regexp.MustCompile(`qh1[srl]_[A-Za-z0-9_-]{64}`)

// maskedPayload is the first n bytes of a payload. A token that goes on behind them is masked as well.
func maskedPayload(payload []byte, n int) []byte {
	const beyond = 69
	shown := mask(payload[:min(len(payload), n+beyond)])
	return shown[:min(len(shown), n)]
}

// mask puts fingerprints in the place of tokens, and keeps all lengths.
func mask(text []byte) []byte {
	return tokens.ReplaceAllFunc(text, func(token []byte) []byte {
		masked := append([]byte(nil), token[:len("qh1s_")]...)
		if h, err := handles.Parse(string(token)); err == nil {
			masked = append(append(masked, '#'), h.Fingerprint()...)
		}
		for len(masked) < len(token) {
			masked = append(masked, '*')
		}
		return masked
	})
}

// messagePageTokenPrefix is like pageTokenPrefix.
const messagePageTokenPrefix = "m1:"

func messagePageToken(c broker.Cursor) string {
	raw := append([]byte(messagePageTokenPrefix), byte(c.State))
	raw = binary.BigEndian.AppendUint64(raw, uint64(c.Key))
	raw = binary.BigEndian.AppendUint64(raw, c.Order)
	return base64.RawURLEncoding.EncodeToString(raw)
}

func parseMessagePageToken(token string) (c broker.Cursor, _ *broker.Error) {
	if token == "" {
		return c, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	rest, ok := strings.CutPrefix(string(raw), messagePageTokenPrefix)
	if err != nil || !ok || len(rest) != 17 {
		return c, errPageToken()
	}
	c.State = broker.MessageState(rest[0])
	c.Key = int64(binary.BigEndian.Uint64([]byte(rest[1:])))
	c.Order = binary.BigEndian.Uint64([]byte(rest[9:]))
	return c, nil
}

// DeleteMessages implements the RPC.
func (s *adminService) DeleteMessages(
	ctx context.Context, req *queuepb.DeleteMessagesRequest,
) (*queuepb.DeleteMessagesResponse, error) {
	if err := checkQueue(req.Queue, "queue"); err != nil {
		return nil, err
	}
	if len(req.MessageIds) == 0 {
		return nil, refuse(reasonMessageIDsInvalid, "message_ids", "name at least one message")
	}
	ids, refused := messageIDs(req.MessageIds)
	if refused != nil {
		return nil, refused
	}
	removed, err := ask[*broker.Removed](ctx, s, &broker.DeleteMessages{Queue: strings.Clone(req.Queue), Messages: ids})
	if err != nil {
		return nil, err
	}
	return &queuepb.DeleteMessagesResponse{DeletedMessages: removed.Messages}, nil
}

// RedriveMessages implements the RPC.
func (s *adminService) RedriveMessages(
	ctx context.Context, req *queuepb.RedriveMessagesRequest,
) (*queuepb.RedriveMessagesResponse, error) {
	if err := checkQueue(req.Queue, "queue"); err != nil {
		return nil, err
	}
	if req.TargetQueue != "" {
		if err := checkQueue(req.TargetQueue, "target_queue"); err != nil {
			return nil, err
		}
	}
	ids, refused := messageIDs(req.MessageIds)
	if refused != nil {
		return nil, refused
	}
	redriven, err := ask[*broker.Removed](ctx, s, &broker.RedriveMessages{
		Queue: strings.Clone(req.Queue), Messages: ids, Target: strings.Clone(req.TargetQueue),
	})
	if err != nil {
		return nil, err
	}
	return &queuepb.RedriveMessagesResponse{RedrivenMessages: redriven.Messages}, nil
}

func messageIDs(texts []string) ([]broker.MessageID, *broker.Error) {
	if len(texts) > maxMessageIDs {
		return nil, refuse(reasonMessageIDsInvalid, "message_ids", fmt.Sprintf("name at most %d", maxMessageIDs))
	}
	var ids []broker.MessageID
	for i, text := range texts {
		id, ok := broker.ParseMessageID(text)
		if !ok {
			return nil, refuse(reasonMessageIDsInvalid, fmt.Sprintf("message_ids[%d]", i), notAMessageID(text))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func notAMessageID(text string) string {
	return show(text) + " is not the id of a message: use those of receipts, deliveries and ListMessages"
}
