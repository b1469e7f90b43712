package integration_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/replyq/replyq/api/queuepb"
)

const enqueuePath = queuepb.QueueService_Enqueue_FullMethodName

// A transportRow is something that is wrong below the level of messages.
type transportRow struct {
	name string
	// do does it, and returns the stream it was done on; 0 if the connection is what ends.
	do   func(c *http2Conn) uint32
	want fate
}

// callWith is a call with these changes to its headers.
func callWith(changes ...string) func(*http2Conn) uint32 {
	return callAt(enqueuePath, changes...)
}

func callAt(path string, changes ...string) func(*http2Conn) uint32 {
	return func(c *http2Conn) uint32 {
		id := c.open(headersFor(path, changes...), false)
		c.send(id, prefixed(nil))
		return id
	}
}

// body is a call with these bytes as its body.
func body(data []byte, changes ...string) func(*http2Conn) uint32 {
	return func(c *http2Conn) uint32 {
		id := c.open(headersFor(enqueuePath, changes...), false)
		c.send(id, data)
		return id
	}
}

// transportRows are what gRPC and HTTP/2 answer by themselves, without a reason of ours. docs/errors.md has the same.
func transportRows() []transportRow {
	unimplemented := fate{Status: "Unimplemented"}
	internal := fate{Status: "Internal"}
	protocolError := fate{GoAway: "PROTOCOL_ERROR", Closed: true}
	closed := fate{Closed: true}
	lengthOnly := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0}, n) }
	return []transportRow{
		{"path without a leading slash", callAt(enqueuePath[1:]), unimplemented},
		{"unknown method", callAt(enqueuePath + "d"), unimplemented},
		{"unknown service", callAt("/replyq.v1.Nobody/Enqueue"), unimplemented},
		{"path in upper case", callAt(strings.ToUpper(enqueuePath)), unimplemented},
		{"path with two slashes", callAt("/" + enqueuePath), unimplemented},
		{"empty path", callAt(""), unimplemented},
		{"path of channelz", callAt("/grpc.channelz.v1.Channelz/GetServers"), unimplemented},
		{"path of pprof", callAt("/debug/pprof/"), unimplemented},
		{"method GET", callWith(":method", "GET"), fate{HTTP: "405", Status: "Internal"}},
		{"content-type text/plain", callWith("content-type", "text/plain"), fate{HTTP: "415", Status: "InvalidArgument"}},
		{"content-type application/grpc+json, and JSON", body(prefixed([]byte("{}")), "content-type", "application/grpc+json"), fate{Status: "InvalidArgument"}},
		{"no content-type", callWith("content-type", "-"), fate{HTTP: "415", Status: "InvalidArgument"}},
		{"no authority", callWith(":authority", "-"), fate{HTTP: "400", Status: "Internal"}},
		{"connection header", callWith("connection", "close"), fate{Reset: "PROTOCOL_ERROR"}},
		{"timeout with an unknown unit", callWith("grpc-timeout", "5x"), fate{HTTP: "400", Status: "Internal"}},
		{"timeout of nine digits", callWith("grpc-timeout", "123456789S"), fate{HTTP: "400", Status: "Internal"}},
		{"timeout of 0", callWith("grpc-timeout", "0n"), fate{Status: "DeadlineExceeded"}},
		{"binary header in bad base64", callWith("tok-bin", "***"), fate{HTTP: "400", Status: "Internal"}},
		{"header of 15 KB", callWith("big", strings.Repeat("v", 15_000)), closed},
		{"headers of 9 KB together", func(c *http2Conn) uint32 {
			var changes []string
			for i := range 90 {
				changes = append(changes, fmt.Sprint("header-", i), strings.Repeat("v", 60))
			}
			return callWith(changes...)(c)
		}, fate{Reset: "FRAME_SIZE_ERROR"}},
		{"compression that is not offered", body(append([]byte{1}, prefixed(nil)[1:]...), "grpc-encoding", "gzip"), unimplemented},
		{"compressed without saying how", body(append([]byte{1}, prefixed(nil)[1:]...)), internal},
		{"message flag 7", body(append([]byte{7}, prefixed(nil)[1:]...)), internal},
		{"message of 4 GiB less 1", body(lengthOnly(1<<32 - 1)), fate{Status: "ResourceExhausted"}},
		{"message of 8 MiB and 1", body(lengthOnly(8<<20 + 1)), fate{Status: "ResourceExhausted"}},
		{"message that is cut short", body(append(lengthOnly(10), 1, 2, 3)), internal},
		{"prefix that is cut short", body([]byte{0, 0, 0}), internal},
		{"unary call without a message", body(nil), internal},
		{"unary call with two messages", body(append(prefixed([]byte("\n\x01q")), prefixed([]byte("\n\x01q"))...)), internal},
		{"even stream id", func(c *http2Conn) uint32 {
			c.openAs(2, headersFor(enqueuePath), true)
			return 0
		}, protocolError},
		{"stream id going down", func(c *http2Conn) uint32 {
			c.openAs(5, headersFor(enqueuePath), true)
			c.openAs(3, headersFor(enqueuePath), true)
			return 0
		}, protocolError},
		{"ten pings at once", func(c *http2Conn) uint32 {
			for i := range 10 {
				_ = c.framer.WritePing(false, [8]byte{byte(i)}) // what cannot be written is known by what is read
			}
			return 0
		}, fate{GoAway: "ENHANCE_YOUR_CALM", Closed: true}},
		{"initial window of 2^31", func(c *http2Conn) uint32 {
			_ = c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) // as above
			return 0
		}, closed},
		{"frame of 1 MiB", func(c *http2Conn) uint32 {
			id := c.open(headersFor(enqueuePath), false)
			_ = c.framer.WriteData(id, true, make([]byte, 1<<20)) // as above
			return 0
		}, closed},
		{"data on a stream that is not open", func(c *http2Conn) uint32 {
			_ = c.framer.WriteData(99, true, prefixed(nil)) // as above
			return callWith()(c)
		}, fate{Status: "InvalidArgument"}},
		{"window grown beyond 2^31", func(c *http2Conn) uint32 {
			for range 3 {
				_ = c.framer.WriteWindowUpdate(0, 1<<31-1) // as above
			}
			return callWith()(c)
		}, fate{Status: "InvalidArgument"}},
		{"headers that never end", func(c *http2Conn) uint32 {
			block := bytes.Clone(c.encode(headersFor(enqueuePath)))
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block}) // as above
			for range 1000 {
				if c.framer.WriteContinuation(1, false, c.encode([]hpack.HeaderField{{Name: "a", Value: strings.Repeat("v", 1000)}})) != nil {
					break
				}
			}
			return 0
		}, closed},
	}
}

// bareRows are what is no HTTP/2 at all, or none for long.
func bareRows() map[string]string {
	return map[string]string{
		"HTTP/1.1":            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"TLS":                 "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + strings.Repeat("r", 32),
		"garbage":             strings.Repeat("\xff", 100),
		"preface, no frame":   http2.ClientPreface + "garbage, and more of it",
		"half a preface":      http2.ClientPreface[:10],
		"nothing at all":      "",
		"preface, no setting": http2.ClientPreface,
	}
}

// What is wrong with a connection or a stream ends that and nothing else.
func TestP26BadTransport(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.checkWorks(t.Context(), t)
	before := s.queues(t.Context(), t)
	for _, row := range transportRows() {
		t.Run(row.name, func(t *testing.T) {
			c := dialHTTP2(t, s.addr)
			id := row.do(c)
			got := c.lost
			if id == 0 {
				got = c.awaitEnd(patience)
			} else {
				a := c.await(id)
				got = a.fate
				if reason := a.headers["replyq-reason"]; reason != "" && got.Status != "InvalidArgument" {
					t.Errorf("reason %s, want none: this is not the service's answer", reason)
				}
			}
			if got != row.want {
				t.Errorf("%+v, want %+v", got, row.want)
			}
			if !got.Closed { // the connection is as good as before
				if a := c.call(headersFor(enqueuePath), []byte("\n\x01!")); a.headers["replyq-reason"] != "QUEUE_NAME_INVALID" {
					t.Errorf("the connection's next call: %+v %v, want QUEUE_NAME_INVALID", a.fate, a.headers)
				}
			}
			s.checkWorks(t.Context(), t)
		})
	}
	t.Run("bare", func(t *testing.T) {
		for name, say := range bareRows() {
			t.Run(name, func(t *testing.T) {
				t.Parallel() // some are closed only after 5 s
				conn := dialBare(t, s.addr).conn
				if _, err := io.WriteString(conn, say); err != nil {
					t.Fatal(err)
				}
				if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the connection is still open after %v", patience)
				}
			})
		}
	})
	s.checkWorks(t.Context(), t)
	s.checkUnchanged(t.Context(), t, before)
	s.checkNothingLeft(t)
}

// A client that sends more than it was given room for loses the stream. Room is given for the whole of a message as soon
// as its length is known, which may be before it has sent too much; so it may take a few tries.
func TestBodyBeyondTheWindow(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := dialHTTP2(t, s.addr)
	for range 100 {
		id := c.open(headersFor(enqueuePath), false)
		_ = c.framer.WriteData(id, false, binary.BigEndian.AppendUint32([]byte{0}, 8<<20)) // a lost connection is known by what is read
		for range 600 {
			_ = c.framer.WriteData(id, false, make([]byte, 16<<10)) // likewise
		}
		switch got := c.await(id).fate; got {
		case fate{Reset: "FLOW_CONTROL_ERROR"}:
			s.checkWorks(t.Context(), t)
			return
		case fate{Status: "InvalidArgument"}, fate{Status: "Internal"}: // it was read faster than it was sent
		default:
			t.Fatalf("%+v, want FLOW_CONTROL_ERROR, or an answer to 8 MiB of zeros", got)
		}
	}
	t.Error("nobody has minded that too much was sent")
}
