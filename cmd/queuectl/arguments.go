package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
)

// handleArg is a handle on the command line: its text, or @FILE.
type handleArg struct{ handle handles.Handle }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *handleArg) UnmarshalText(text []byte) error {
	if name, ok := bytes.CutPrefix(text, []byte("@")); ok {
		file, err := os.ReadFile(string(name))
		if err != nil {
			return err
		}
		text = bytes.TrimSpace(file)
	}
	var err error
	if h.handle, err = handles.Parse(string(text)); err != nil {
		return errors.New("not a handle: copy it whole, 69 characters that begin with qh1, or give @FILE")
	}
	return nil
}

// handleMap is a set of named handles.
type handleMap map[string]handleArg

func (m handleMap) handles() map[string]handles.Handle {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]handles.Handle, len(m))
	for name, h := range m {
		out[name] = h.handle
	}
	return out
}

// contentFlags are about what is sent, by enqueue, call and reply.
type contentFlags struct {
	ContentType string            `placeholder:"TYPE" help:"What the payload is, e.g. application/json."`
	Header      map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"A header; may be given many times."`
	Handle      handleMap         `mapsep:"none" placeholder:"NAME=HANDLE" help:"A handle that travels along under a name, of either kind; may be given many times."`
}

// payload is an argument, or standard input if it is "-".
func (a *app) payload(argument string) ([]byte, error) {
	if argument != "-" {
		return []byte(argument), nil
	}
	b, err := io.ReadAll(a.std.in)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return b, nil
}

func (f *contentFlags) message(payload []byte) client.Message {
	return client.Message{Payload: payload, ContentType: f.ContentType, Headers: f.Header, Handles: f.Handle.handles()}
}

func (f *contentFlags) answer(payload []byte) client.Answer {
	return client.Answer{Payload: payload, ContentType: f.ContentType, Headers: f.Header, Handles: f.Handle.handles()}
}
