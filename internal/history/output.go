package history

import (
	"errors"

	"github.com/replyq/replyq/client"
)

// Output is how an operation went; zero if it was carried out and says nothing more.
type Output struct {
	Unknown bool // it may have happened, may happen yet, or not
	Refused bool // it was not carried out
	Status  client.ReplyStatus
	Reason  client.Reason
	Last    uint64 // sequence of the reply, or with an end of the last one
}

// OutputOf is how a settlement or a reply went, by its error.
func OutputOf(err error) Output {
	var e *client.Error
	switch {
	case err == nil:
		return Output{}
	case errors.Is(err, client.ErrSettled):
		return Output{Refused: true}
	case errors.As(err, &e) && e.Outcome != client.OutcomeUnknown &&
		(e.Outcome == client.OutcomeNotApplied || e.Reason == client.ReasonLeaseStale || e.Reason == client.ReasonLeaseUnknown):
		return Output{Refused: true}
	default:
		return Output{Unknown: true}
	}
}
