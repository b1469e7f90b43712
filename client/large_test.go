package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

// Values of several replies.

// noise is bytes that are unlike each other.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

// readAll reads a whole value and closes the reader.
func readAll(t *testing.T, r *client.ReplyReader) []byte {
	t.Helper()
	value, err := r.ReadAll()
	if err != nil {
		t.Errorf("ReadAll() = %d bytes, %v", len(value), err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	return value
}

func TestLargeValue(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		const part = 1000
		for _, size := range []int{0, 1, part - 1, part, part + 1, 5 * part, 100*part + 7} {
			want := noise(size)
			stop := work(t, c, client.WorkConfig{}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
				w := d.NewWriter(ctx, client.WriterOptions{PartSize: part, ContentType: "application/x-noise",
					Headers: map[string]string{"name": "n"}})
				// Written as it comes, in pieces that do not fit the parts.
				if _, err := io.CopyBuffer(struct{ io.Writer }{w}, iotest.OneByteReader(bytes.NewReader(want[:size/3])), make([]byte, 7)); err != nil {
					return nil, err
				}
				if _, err := w.Write(want[size/3:]); err != nil {
					return nil, err
				}
				return nil, errors.Join(w.Close(), w.Close())
			}, "large")
			call := c.Call(t.Context(), "large", text(""))
			r := call.Reader()
			head, err := r.Head()
			if err != nil || head.ContentType != "application/x-noise" || head.Headers["name"] != "n" || head.Payload != nil {
				t.Errorf("%d bytes: Head() = %+v, %v", size, head, err)
			}
			if got := readAll(t, r); !bytes.Equal(got, want) {
				t.Errorf("%d bytes: got %d other ones", size, len(got))
			}
			handle, err := call.Handle()
			if err != nil {
				t.Fatal(err)
			}
			// Once more, by the handle, and all that is in the pipe.
			if got := readAll(t, client.NewFuture[[]byte](c, handle).Reader(t.Context())); !bytes.Equal(got, want) {
				t.Errorf("%d bytes by the handle: got %d other ones", size, len(got))
			}
			n := max((size+part-1)/part, 1)
			i := 0
			for reply, err := range c.Receive(t.Context(), handle, 0) {
				i++
				last := reply.Headers["parts"] == fmt.Sprint(n)
				if err != nil || reply.Headers["part"] != fmt.Sprint(i) || last != (i == n) {
					t.Errorf("%d bytes: reply %d of %d has headers %v, error %v", size, i, n, reply.Headers, err)
				}
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

// Parts are never larger than the server takes.
func TestLargeValueKeepsToTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bed := testbed.New(t, testbed.InMemory(), testbed.WithServer(func(c *server.Config) { c.MaxPayload = 5000 }))
		c := newClient(t, bed)
		pipe, err := c.OpenPipe(t.Context(), client.PipeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := noise(33_000)
		w := c.NewWriter(t.Context(), pipe.Send, client.WriterOptions{})
		if n, err := w.Write(want); n != len(want) || err != nil {
			t.Errorf("Write() = %d, %v", n, err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if _, err := w.Write(want); err == nil {
			t.Error("Write after Close = nil")
		}
		r := c.NewReader(t.Context(), pipe.Receive)
		if err := iotest.TestReader(struct{ io.Reader }{r}, want); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Read after Close = %v", err)
		}
	})
}

// A worker that is lost half-way: the reader of what it had written learns that it is worth nothing.
func TestLargeValueBeginsAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, bed *testbed.Bed, caller *client.Client) {
		want := noise(10_000)
		half := make(chan struct{})
		write := func(lost *client.Client) client.Handler {
			return func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
				w := d.NewWriter(ctx, client.WriterOptions{PartSize: 1000})
				if lost != nil {
					if _, err := w.Write(append([]byte("wrong"), want[:5000]...)); err != nil {
						return nil, err
					}
					close(half)
					<-ctx.Done()
					return nil, ctx.Err()
				}
				if _, err := w.Write(want); err != nil {
					return nil, err
				}
				return nil, w.Close()
			}
		}
		first := newClient(t, bed)
		work(t, first, client.WorkConfig{}, write(first), "large")
		call := caller.Call(t.Context(), "large", text(""))
		r := call.Reader()
		got := make([]byte, 2500)
		if _, err := io.ReadFull(r, got); err != nil {
			t.Fatal(err)
		}
		<-half
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		work(t, newClient(t, bed), client.WorkConfig{}, write(nil), "large")
		n, err := io.Copy(io.Discard, r)
		restart := new(client.RestartError)
		if !errors.As(err, &restart) || restart.Attempt != 2 || restart.Dropped != 2500+n {
			t.Fatalf("after %d bytes: %v, want the word that %d are to be dropped", n, err, 2500+n)
		}
		if got := readAll(t, r); !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, other than were written", len(got))
		}
		// Who reads from the beginning, later, needs nothing of this.
		handle, err := call.Handle()
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, caller.NewReader(t.Context(), handle)); !bytes.Equal(got, want) {
			t.Errorf("later: got %d bytes, other than were written", len(got))
		}
	})
}

// What is not whole is never taken for whole.
func TestHalfValue(t *testing.T) {
	for name, test := range map[string]struct {
		handler client.Handler
		want    error
	}{
		"the writer was forgotten": {func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			w := d.NewWriter(ctx, client.WriterOptions{PartSize: 10})
			_, err := w.Write(make([]byte, 100))
			return nil, err // and an ack, which ends the pipe OK
		}, io.ErrUnexpectedEOF},
		"the work failed": {func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			w := d.NewWriter(ctx, client.WriterOptions{PartSize: 10})
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return nil, err
			}
			return nil, &client.Error{Code: 13, Reason: "DISK", Message: "read error"}
		}, client.Reason("DISK")},
		"the writer was told": {func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			w := d.NewWriter(ctx, client.WriterOptions{})
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return nil, err
			}
			return nil, errors.Join(w.Flush(), w.CloseWithError(&client.Error{Code: 13, Reason: "DISK"}), w.Close())
		}, client.ErrFailed},
		"a plain answer after parts": {func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			w := d.NewWriter(ctx, client.WriterOptions{})
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return nil, err
			}
			return &client.Answer{Payload: []byte("x")}, w.Flush()
		}, io.ErrUnexpectedEOF},
		"a part is missing": {func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			for _, part := range []string{"1", "3"} {
				if _, err := d.ReplyMore(ctx, client.Answer{Headers: map[string]string{"part": part}}); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}, io.ErrUnexpectedEOF},
		"the beginning is missing": {func(context.Context, *client.Delivery) (*client.Answer, error) {
			return &client.Answer{Headers: map[string]string{"part": "2", "parts": "2"}}, nil
		}, io.ErrUnexpectedEOF},
		"there was none": {func(context.Context, *client.Delivery) (*client.Answer, error) {
			return nil, nil
		}, client.ErrBroken},
		"plain replies are whole": {func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			_, err := d.ReplyMore(ctx, client.Answer{Payload: []byte("a")})
			return &client.Answer{Payload: []byte("b")}, err
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
				work(t, c, client.WorkConfig{}, test.handler, "large")
				r := c.Call(t.Context(), "large", text("")).Reader()
				if _, err := r.ReadAll(); !errors.Is(err, test.want) {
					t.Errorf("ReadAll() = %v, want %v", err, test.want)
				}
			})
		})
	}
}

// The writer learns that nobody reads any more, and its reader's slowness holds it up.
func TestWriterAndItsReader(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		var written int
		ended := make(chan error, 1)
		work(t, c, client.WorkConfig{}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			w := d.NewWriter(ctx, client.WriterOptions{PartSize: 100})
			for {
				n, err := w.Write(make([]byte, 100))
				if written += n; err != nil {
					ended <- err
					return nil, err
				}
			}
		}, "endless")
		r := c.Call(t.Context(), "endless", text(""), client.WithPipe(client.PipeOptions{CapacityReplies: 8})).Reader()
		if _, err := r.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// What the pipe keeps, what the reader was promised, what a stream has under way, and a part in the writer's hands.
		if most := (8 + 256 + 512 + 2) * 100; written > most {
			t.Errorf("%d bytes were written with one being read, want at most %d", written, most)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, client.ErrWaiterGone) && !errors.Is(err, context.Canceled) {
			t.Errorf("Write() = %v, want the word that the waiter has gone", err)
		}
	})
}

// Without a reply_to the work is done all the same.
func TestWriterWithoutWaiter(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		done := make(chan error, 1)
		work(t, c, client.WorkConfig{MaxDeliveries: 1}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			w := d.NewWriter(ctx, client.WriterOptions{PartSize: 10})
			_, err := w.Write(make([]byte, 100))
			err = errors.Join(err, w.Close())
			done <- err
			return nil, err
		}, "large")
		enqueue(t.Context(), t, c, "large", text(""))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Nobody's slowness holds up anybody else: neither a reader that does not read, nor a worker that is held up by it, stops
// what else goes on in the same two sessions.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, bed *testbed.Bed, caller *client.Client) {
		const length = 1000
		worker := newClient(t, bed)
		work(t, worker, client.WorkConfig{Concurrency: 3}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			for i := range length - 1 {
				if _, err := d.ReplyMore(ctx, client.Answer{Payload: fmt.Append(nil, i)}); err != nil {
					return nil, err
				}
			}
			return &client.Answer{Payload: fmt.Append(nil, length-1)}, nil
		}, "stream")
		work(t, worker, client.WorkConfig{Concurrency: 2}, echo, "echo")

		small := client.WithPipe(client.PipeOptions{CapacityReplies: 4})
		slow := []*client.Call{
			caller.Call(t.Context(), "stream", text("1"), small), caller.Call(t.Context(), "stream", text("2"), small),
		}
		synctest.Wait() // both workers are held up by now
		if s := bed.Broker.InFlight(); s != 2 {
			t.Errorf("%d deliveries are being worked on, want 2", s)
		}
		// The bubble's time stands still while anything can go on: so nothing of this waits for the slow ones.
		began := time.Now()
		for i := range 200 {
			name := fmt.Sprint("echo ", i)
			reply, err := caller.Call(t.Context(), "echo", text(name)).One()
			if err != nil || string(reply.Payload) != name {
				t.Fatalf("One() = %q, %v", reply.Payload, err)
			}
			enqueue(t.Context(), t, worker, "other", text(name))
		}
		stream, err := replies(caller.Call(t.Context(), "stream", text("3")).Replies())
		if err != nil || len(stream) != length {
			t.Errorf("another stream: got %d replies, %v", len(stream), err)
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("the others were held up for %v", waited)
		}
		var want []string
		for i := range length {
			want = append(want, fmt.Sprint(i))
		}
		for _, call := range slow { // and the slow ones miss nothing
			got, err := replies(call.Replies())
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("slow stream: %v (-want +got)\n%s", err, diff)
			}
		}
	})
}

// Payloads that are too large to be copied on their way arrive as they were sent, also if the sender uses its memory again,
// and each belongs to who got it.
func TestLargePayloads(t *testing.T) {
	inBubble(t, func(t *testing.T, bed *testbed.Bed, c *client.Client) {
		work(t, newClient(t, bed), client.WorkConfig{}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			stream := d.ReplyStream(ctx)
			for range 3 {
				if err := stream.Send(client.Answer{Payload: d.Payload, ContentType: d.ContentType}); err != nil {
					return nil, err
				}
				for i := range d.Payload {
					d.Payload[i]++
				}
			}
			return &client.Answer{Payload: d.Payload}, nil
		}, "large")
		for _, size := range []int{60 << 10, 64<<10 - 100, 64 << 10, 70 << 10, 128 << 10, 1 << 20} {
			for _, contentType := range []string{"", "application/x-noise"} {
				payload := noise(size)
				call := c.Call(testContext(t), "large", client.Message{Payload: payload, ContentType: contentType})
				want := bytes.Clone(payload)
				clear(payload) // it was taken
				n := 0
				for reply, err := range call.Replies() {
					if err != nil {
						t.Fatalf("%d bytes: %v", size, err)
					}
					if !bytes.Equal(reply.Payload, want) || reply.SourceMessageID == "" {
						t.Errorf("%d bytes: reply %d is not what was sent", size, n)
					}
					id := bytes.Clone([]byte(reply.SourceMessageID))
					if _ = append(reply.Payload, "over the end"...); reply.SourceMessageID != string(id) {
						t.Errorf("%d bytes: reply %d changes when its payload is added to", size, n)
					}
					for i := range want {
						want[i]++
					}
					n++
				}
				if n != 4 {
					t.Errorf("%d bytes: %d replies, want 4", size, n)
				}
			}
		}
	})
}
