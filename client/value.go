package client

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// How values become payloads and back: bytes and text as they are, protobuf messages in their binary form, everything
// else as JSON.

// Content types that [NewAnswer] sets.
const (
	ContentTypeText  = "text/plain; charset=utf-8"
	ContentTypeProto = "application/protobuf"
	ContentTypeJSON  = "application/json"
)

// NewAnswer encodes a value: a []byte or string becomes the payload, a protobuf message is encoded, an [Answer] or
// [*Answer] stays as it is, anything else becomes JSON. The content type says which.
func NewAnswer(value any) (*Answer, error) {
	switch v := value.(type) {
	case *Answer:
		return v, nil
	case Answer:
		return &v, nil
	case []byte:
		return &Answer{Payload: v}, nil
	case string:
		return &Answer{Payload: []byte(v), ContentType: ContentTypeText}, nil
	case proto.Message:
		b, err := proto.Marshal(v)
		return &Answer{Payload: b, ContentType: ContentTypeProto}, err
	default:
		b, err := json.Marshal(v)
		return &Answer{Payload: b, ContentType: ContentTypeJSON}, err
	}
}

// NewMessage encodes a value as [NewAnswer] does.
func NewMessage(value any) (Message, error) {
	if m, ok := value.(Message); ok {
		return m, nil
	}
	a, err := NewAnswer(value)
	if err != nil {
		return Message{}, err
	}
	return Message{Payload: a.Payload, ContentType: a.ContentType, Headers: a.Headers, Handles: a.Handles}, nil
}

// Decode takes a value out of a payload, the way [NewAnswer] put it in: T may be []byte, string, a pointer to a protobuf
// message, or anything that JSON can fill. The value may share the payload's memory.
func Decode[T any](payload []byte) (T, error) {
	var v T
	switch p := any(&v).(type) {
	case *[]byte:
		*p = payload
	case *string:
		*p = string(payload)
	default:
		if m, ok := any(v).(proto.Message); ok {
			m = m.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(payload, m); err != nil {
				return v, fmt.Errorf("decode %T: %w", v, err)
			}
			return m.(T), nil //nolint:errcheck // it was made from a T
		}
		if err := json.Unmarshal(payload, &v); err != nil {
			return v, fmt.Errorf("decode %T: %w", v, err)
		}
	}
	return v, nil
}

func decodeReplyAs[T any](r Reply) (T, error) {
	var v T
	if p, ok := any(&v).(*Reply); ok {
		*p = r
		return v, nil
	}
	return Decode[T](r.Payload)
}
