package integration_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
)

// An http2Conn is a connection on which a test says what no gRPC client would: every frame is written by hand. The test
// reads in the goroutine it writes in.
type http2Conn struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	next   uint32 // stream id

	block   bytes.Buffer // of headers, being encoded
	encoder *hpack.Encoder
	answers map[uint32]*http2Answer
	lost    fate // of the connection
}

// A fate is what became of a stream or a connection.
type fate struct {
	HTTP   string // :status, if it is not 200
	Status string // grpc-status, by name
	Reset  string // code of RST_STREAM, where no trailers came before
	GoAway string // code of GOAWAY
	Closed bool   // the server has closed the connection
}

// String is the fate as docs/errors.md has it.
func (f fate) String() string {
	var said []string
	if f.Status != "" {
		said = append(said, constantCase(f.Status))
	}
	if f.HTTP != "" {
		said = append(said, "HTTP "+f.HTTP)
	}
	if f.Reset != "" {
		said = append(said, "RST_STREAM "+f.Reset)
	}
	if f.GoAway != "" {
		said = append(said, "GOAWAY "+f.GoAway)
	}
	if f.Closed {
		said = append(said, "closed")
	}
	return strings.Join(said, ", ")
}

// constantCase is a code's name as documents have it.
func constantCase(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) && name != "OK" {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// An http2Answer is what came back on a stream.
type http2Answer struct {
	fate

	headers map[string]string // and trailers
	data    []byte
	over    bool
}

// dialHTTP2 connects and says hello, with these settings.
func dialHTTP2(t *testing.T, addr string, settings ...http2.Setting) *http2Conn {
	t.Helper()
	c := dialBare(t, addr)
	if _, err := io.WriteString(c.conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := c.framer.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return c
}

// dialBare connects and says nothing.
func dialBare(t *testing.T, addr string) *http2Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // fails only if it was closed before
	c := &http2Conn{t: t, conn: conn, next: 1, answers: make(map[uint32]*http2Answer)}
	c.framer = http2.NewFramer(conn, conn)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.AllowIllegalWrites = true
	c.encoder = hpack.NewEncoder(&c.block)
	return c
}

// headersFor are the headers of a gRPC call, changed as the pairs say: a value replaces the header's, "-" leaves it out.
func headersFor(path string, changes ...string) []hpack.HeaderField {
	all := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: path},
		{Name: ":authority", Value: "localhost"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	}
	for i := 0; i < len(changes); i += 2 {
		name, value, replaced := changes[i], changes[i+1], false
		for j := range all {
			if all[j].Name == name {
				all[j].Value, replaced = value, true
			}
		}
		if !replaced {
			all = append(all, hpack.HeaderField{Name: name, Value: value})
		}
	}
	kept := all[:0]
	for _, h := range all {
		if h.Value != "-" {
			kept = append(kept, h)
		}
	}
	return kept
}

// encode makes a block of headers.
func (c *http2Conn) encode(headers []hpack.HeaderField) []byte {
	c.block.Reset()
	for _, h := range headers {
		if err := c.encoder.WriteField(h); err != nil {
			c.t.Fatal(err)
		}
	}
	return c.block.Bytes()
}

// open opens a stream.
func (c *http2Conn) open(headers []hpack.HeaderField, end bool) uint32 {
	id := c.next
	c.next += 2
	c.openAs(id, headers, end)
	return id
}

// openAs opens a stream with this id. What cannot be written is known by what is read.
func (c *http2Conn) openAs(id uint32, headers []hpack.HeaderField, end bool) {
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.encode(headers), EndHeaders: true, EndStream: end,
	})
}

// send sends bytes on a stream, and ends it. What cannot be written is known by what is read.
func (c *http2Conn) send(id uint32, data []byte) { _ = c.framer.WriteData(id, true, data) }

// prefixed is a message as gRPC frames it.
func prefixed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// call makes a call of one message.
func (c *http2Conn) call(headers []hpack.HeaderField, message []byte) *http2Answer {
	id := c.open(headers, false)
	c.send(id, prefixed(message))
	return c.await(id)
}

// await reads until a stream is over, or the connection.
func (c *http2Conn) await(id uint32) *http2Answer {
	c.t.Helper()
	c.readUntil(patience, func() bool { return c.answer(id).over })
	a := c.answer(id)
	if !a.over {
		a.fate = c.lost
	}
	return a
}

// awaitEnd reads until the connection is over.
func (c *http2Conn) awaitEnd(limit time.Duration) fate {
	c.t.Helper()
	c.readUntil(limit, func() bool { return false })
	return c.lost
}

func (c *http2Conn) answer(id uint32) *http2Answer {
	a, ok := c.answers[id]
	if !ok {
		a = &http2Answer{headers: make(map[string]string)}
		c.answers[id] = a
	}
	return a
}

// readUntil reads frames until done, or until the connection is over. Being slower than the limit fails the test.
func (c *http2Conn) readUntil(limit time.Duration, done func() bool) {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		c.t.Fatal(err)
	}
	for !c.lost.Closed && !done() {
		frame, err := c.framer.ReadFrame()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.t.Fatalf("neither an answer nor an end within %v", limit)
		case err != nil:
			c.lost.Closed = true
		default:
			c.take(frame)
		}
	}
}

func (c *http2Conn) take(frame http2.Frame) {
	a := c.answer(frame.Header().StreamID)
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = c.framer.WriteSettingsAck() // a connection that is over is known by what is read
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.framer.WritePing(true, f.Data) // likewise
		}
	case *http2.MetaHeadersFrame:
		for _, h := range f.Fields {
			a.headers[h.Name] = h.Value
		}
		if f.StreamEnded() {
			a.end("")
		}
	case *http2.DataFrame:
		a.data = append(a.data, f.Data()...)
		if f.StreamEnded() {
			a.end("")
		}
	case *http2.RSTStreamFrame:
		a.end(f.ErrCode.String())
	case *http2.GoAwayFrame:
		c.lost.GoAway = f.ErrCode.String()
	}
}

func (a *http2Answer) end(reset string) {
	if a.over {
		return // RST_STREAM after the trailers asks the client to send no more
	}
	a.over, a.Reset = true, reset
	if http := a.headers[":status"]; http != "200" {
		a.HTTP = http
	}
	if number, ok := a.headers["grpc-status"]; ok {
		var code codes.Code
		if err := code.UnmarshalJSON([]byte(number)); err != nil {
			a.Status = fmt.Sprintf("grpc-status %q", number)
			return
		}
		a.Status = code.String()
	}
}
