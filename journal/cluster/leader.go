package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	askPause = 250 * time.Millisecond // between two questions to a leader that does not answer
	askTime  = time.Second            // until leads gives up
)

// awaitLeader waits until the leader of the stream answers, or ctx ends. Whenever it has not for askTime, still is called.
func (s *Store) awaitLeader(ctx context.Context, still func()) {
	for !s.leads(ctx) && ctx.Err() == nil {
		still()
	}
}

// leads reports whether the leader of the stream answers, within askTime. While there is none, what is sent to the stream is
// lost, and often nobody says so: asking again and again is sooner to find out that there is one than waiting for each
// batch, and costs less.
func (s *Store) leads(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	inbox := s.conn.NewInbox()
	answers, err := s.conn.SubscribeSync(inbox)
	if err != nil {
		return true // the connection was closed, which whoever appends finds out
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed
	question, subject := lastMessage(s.streamName(), s.subject(0))
	for ctx.Err() == nil {
		waiting, cancel := context.WithTimeout(ctx, askPause)
		if s.conn.PublishRequest(subject, inbox, question) == nil {
			if m, err := answers.NextMsgWithContext(waiting); err == nil && isAnswer(m) { // to this question or an earlier one
				cancel()
				return true
			}
		}
		<-waiting.Done()
		cancel()
	}
	return false
}

// isAnswer reports whether somebody has answered who knows: there is nobody to ask for a stream without a leader, and a server
// that is cut off from most of the others may say that.
func isAnswer(m *nats.Msg) bool {
	_, err := parseMessage(m)
	var api *jetstream.APIError
	return err == nil || errors.As(err, &api) && api.Code != unavailable
}

// unavailable is the code of errors that JetStream, or a stream, has while it has no leader.
const unavailable = 503

// A Message is one that a stream has.
type Message struct {
	Sequence uint64
	Header   nats.Header
	Data     []byte
}

// LastMessage reads the last message of a subject. It asks the stream's leader, and no other server that has a copy, also if
// the stream permits such direct reads: one may be asked that is cut off from the others, and would not answer, or say what
// was. It fails with [jetstream.ErrMsgNotFound] if there is no message.
func LastMessage(ctx context.Context, conn *nats.Conn, stream, subject string) (Message, error) {
	question, to := lastMessage(stream, subject)
	m, err := conn.RequestWithContext(ctx, to, question)
	if err != nil {
		return Message{}, fmt.Errorf("ask the leader of the stream %s: %w", stream, err)
	}
	message, err := parseMessage(m)
	if err != nil {
		return Message{}, fmt.Errorf("read from the stream %s: %w", stream, err)
	}
	return message, nil
}

// lastMessage is a question of JetStream's API, and the subject that it goes to.
func lastMessage(stream, subject string) (question []byte, to string) {
	question, _ = json.Marshal(map[string]string{"last_by_subj": subject}) // never fails
	return question, "$JS.API.STREAM.MSG.GET." + stream
}

// parseMessage takes the answer apart.
func parseMessage(m *nats.Msg) (Message, error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return Message{}, fmt.Errorf("an answer that is none: %w", err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return Message{}, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return Message{}, answer.Error
	case answer.Message == nil:
		return Message{}, errors.New("an answer that is none: it has no message")
	}
	message := Message{Sequence: answer.Message.Sequence, Data: answer.Message.Data}
	if len(answer.Message.Header) > 0 {
		var err error
		if message.Header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return Message{}, fmt.Errorf("the header of message %d: %w", message.Sequence, err)
		}
	}
	return message, nil
}
