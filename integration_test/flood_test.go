package integration_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/api/queuepb"
)

// Floods: much of what costs the sender little. While one comes others are served; it takes bounded memory, and leaves
// nothing behind.

// floodMemory is how much more the server may have resident at any time, in bytes.
const floodMemory = 64 << 20

// A flood is what one bad client does.
type flood struct {
	name string
	// clients is how many do it at the same time.
	clients int
	do      func(t *testing.T, addr string)
}

// unread is a connection whose answers are thrown away, so that the server is not held up by them. closed is closed when
// the connection is.
func unread(t *testing.T, addr string) (c *http2Conn, closed <-chan struct{}) {
	t.Helper()
	c = dialHTTP2(t, addr)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, c.conn) // until the connection is closed
	}()
	return c, over
}

// giveUp makes sure that no write to a server that has stopped reading takes for ever.
func giveUp(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetWriteDeadline(time.Now().Add(3 * time.Second)); err != nil {
		t.Error(err)
	}
}

func floods() []flood {
	return []flood{
		{"20,000 streams that are reset at once", 1, func(t *testing.T, addr string) {
			c, _ := unread(t, addr)
			giveUp(t, c.conn)
			for range 20_000 {
				id := c.open(headersFor(enqueuePath), false)
				if c.framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					return // the server has had enough
				}
			}
		}},
		{"10,000 calls that are reset when they have begun", 1, func(t *testing.T, addr string) {
			c, _ := unread(t, addr)
			giveUp(t, c.conn)
			for range 10_000 {
				id := c.open(headersFor(queuepb.QueueService_Consume_FullMethodName), false)
				c.send(id, prefixed([]byte("\n\x05flood")))
				if c.framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					return
				}
			}
		}},
		{"headers that never end", 8, func(t *testing.T, addr string) {
			c, _ := unread(t, addr)
			giveUp(t, c.conn)
			more := bytes.Clone(c.encode([]hpack.HeaderField{{Name: "a", Value: strings.Repeat("v", 10_000)}}))
			if c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(headersFor(enqueuePath))}) != nil {
				return
			}
			for range 10_000 {
				if c.framer.WriteContinuation(1, false, more) != nil {
					return
				}
			}
			t.Error("100 MB of headers were taken")
		}},
		{"pings", 4, func(t *testing.T, addr string) {
			c, closed := unread(t, addr)
			giveUp(t, c.conn)
			for range 100_000 {
				if c.framer.WritePing(false, [8]byte{}) != nil {
					break
				}
			}
			select {
			case <-closed:
			case <-time.After(patience):
				t.Errorf("the connection is still open after %v", patience)
			}
		}},
		{"settings whose answers nobody reads", 4, func(t *testing.T, addr string) {
			c := dialHTTP2(t, addr)
			giveUp(t, c.conn)
			for range 500_000 {
				if c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65_535}) != nil {
					return
				}
			}
		}},
		{"a payload of 1 MiB in pieces of one byte", 2, func(t *testing.T, addr string) {
			c := dialHTTP2(t, addr)
			payload := protowire.AppendBytes([]byte{1<<3 | 2}, make([]byte, 1<<20))
			message := prefixed(protowire.AppendBytes([]byte("\n\x05bytes\x12"), payload))
			id := c.open(headersFor(enqueuePath), false)
			frames := c.pieces(id, message)
			for len(frames) > 0 {
				n := min(len(frames), 64<<10)
				if _, err := c.conn.Write(frames[:n]); err != nil {
					t.Error(err)
					return
				}
				frames = frames[n:]
			}
			if got := c.await(id).fate; got.Status != "OK" {
				t.Errorf("%+v, want OK: it is a good message", got)
			}
		}},
		{"connections that say nothing", 500, func(t *testing.T, addr string) {
			conn := dialBare(t, addr).conn
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a connection is still open after %v", patience)
			}
		}},
		{"connections that say hello a byte at a time", 200, func(t *testing.T, addr string) {
			conn := dialBare(t, addr).conn
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				_, _ = io.Copy(io.Discard, conn) // until it is closed
			}()
			for i := range http2.ClientPreface {
				if _, err := io.WriteString(conn, http2.ClientPreface[i:i+1]); err != nil {
					return
				}
				select {
				case <-closed:
					return
				case <-time.After(500 * time.Millisecond): // as slow as it gets
				}
			}
			t.Error("a hello was taken that took 12 s")
		}},
	}
}

// pieces are the frames of a message in pieces of one byte.
func (c *http2Conn) pieces(id uint32, message []byte) []byte {
	var b bytes.Buffer
	framer := http2.NewFramer(&b, nil)
	for i := range message {
		if err := framer.WriteData(id, i == len(message)-1, message[i:i+1]); err != nil {
			c.t.Error(err)
		}
	}
	return b.Bytes()
}

func TestP20Floods(t *testing.T) {
	t.Parallel()
	for _, f := range floods() {
		t.Run(f.name, func(t *testing.T) {
			s := startServer(t, "--log-level", "info")
			s.checkWorks(t.Context(), t)
			before := s.peakMemory(t)
			t.Run("at once", func(t *testing.T) { // its connections are closed when it is over
				var clients sync.WaitGroup
				for range f.clients {
					clients.Go(func() { f.do(t, s.addr) })
				}
				over := make(chan struct{})
				go func() {
					defer close(over)
					clients.Wait()
				}()
				served := 0
				for flooding := true; flooding; served++ {
					s.checkWorks(t.Context(), t)
					select {
					case <-over:
						flooding = false
					case <-time.After(20 * time.Millisecond): // a flood of normal calls is another matter
					}
				}
				t.Logf("%d normal calls meanwhile", served)
			})
			s.checkWorks(t.Context(), t)
			if grown := s.peakMemory(t) - before; grown > floodMemory && os.Getenv("REPLYQ_RACE") == "" { // the race detector takes several times as much
				t.Errorf("the server has taken %d MiB more, want at most %d", grown>>20, floodMemory>>20)
			} else {
				t.Logf("the server has taken %d MiB more", grown>>20)
			}
			s.checkNothingLeft(t, "--log-level", "info")
		})
	}
}

// A connection has so many streams and no more; the next is refused, and room is there again when one is over.
func TestP20StreamLimit(t *testing.T) {
	t.Parallel()
	const limit = 8192
	s := startServer(t, "--log-level", "info")
	c := dialHTTP2(t, s.addr)
	for range limit {
		c.open(headersFor(enqueuePath), false) // whose message never comes
	}
	refused := c.await(c.open(headersFor(enqueuePath), false))
	if want := (fate{Reset: "REFUSED_STREAM"}); refused.fate != want {
		t.Errorf("stream %d: %+v, want %+v", limit+1, refused.fate, want)
	}
	s.checkWorks(t.Context(), t)
	if err := c.framer.WriteRSTStream(1, http2.ErrCodeCancel); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a stream is taken again", func() bool {
		return c.call(headersFor(enqueuePath), []byte("\n\x01!")).Status == "InvalidArgument"
	})
}
