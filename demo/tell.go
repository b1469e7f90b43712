package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/replyq/replyq/client"
)

// title begins a step.
func (s *story) title(title string, what ...string) {
	s.step++
	fmt.Printf("\n%d. %s\n   %s\n\n", s.step, title, strings.Join(what, "\n   "))
}

// line tells one thing.
func (s *story) line(label, format string, args ...any) {
	fmt.Printf("   %-9s %s\n", label, fmt.Sprintf(format, args...))
}

// check tells what was checked; the error says that it is not so.
func (s *story) check(ok bool, what string) error {
	if !ok {
		return errors.New("this should be so, and is not: " + what)
	}
	s.checks++
	s.line("check", "ok: %s", what)
	return nil
}

func (s *story) checkTotal(got *total) error {
	if got == nil || *got != s.want {
		return fmt.Errorf("the total is %+v; counted in this process it is %+v (did a file change meanwhile?)", got, s.want)
	}
	return s.check(true, "the total is what this process counts by itself")
}

func (s *story) total(t *total) {
	if t == nil {
		return // checkTotal says so
	}
	s.line("total", "%s lines, %s words, %s identifiers; longest function %s, %s lines",
		grouped(t.Lines), grouped(t.Words), grouped(t.Identifiers), t.Longest.Name, grouped(t.Longest.Lines))
	s.line("", "sha256 %s", t.SHA256)
}

// call sends a request.
func (s *story) call(ctx context.Context, queue string, j job) *client.Call {
	message, _ := client.NewMessage(j) // a job of text and numbers can always be encoded
	return s.client.Call(ctx, queue, message)
}

// followed is what came out of a call.
type followed struct {
	last    answer
	source  string // message id of the last reply
	attempt uint32
	replies int
}

// follow reads the replies of a call to their end.
func (s *story) follow(call *client.Call, each func(client.Reply, answer)) (followed, error) {
	var f followed
	for reply, err := range call.Replies() {
		if err != nil {
			return f, err
		}
		a, err := client.Decode[answer](reply.Payload)
		if err != nil {
			return f, err
		}
		f.replies++
		s.replies++
		if reply.Sequence != uint64(f.replies) {
			return f, fmt.Errorf("reply %d came as number %d", reply.Sequence, f.replies)
		}
		f.last, f.source, f.attempt = a, reply.SourceMessageID, reply.Attempt
		if each != nil {
			each(reply, a)
		}
	}
	return f, nil
}

// How much of the progress is shown: the first replies, then one now and then.
const (
	showFirst = 5
	showEvery = 25
)

func (s *story) progress(r client.Reply, a answer) {
	if a.File == nil || (r.Sequence > showFirst && r.Sequence%showEvery != 0) {
		return
	}
	if r.Sequence == showEvery {
		s.line("", "… and so on; every %dth:", showEvery)
	}
	s.line("reply "+strconv.FormatUint(r.Sequence, 10), "%-44s %7s lines  %8s identifiers  sha256 %s…",
		shorten(a.File.Path, 44), grouped(a.File.Lines), grouped(a.File.Identifiers), a.File.SHA256[:8])
}

// grouped writes a number with its thousands apart.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// shorten cuts the middle out of a long text.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[:n/2-1] + "…" + text[len(text)-n/2+1:]
}
