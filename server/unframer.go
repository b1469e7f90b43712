package server

import "encoding/binary"

// An unframer follows the framing of a connection, HTTP/2 and in it gRPC's, without keeping what it reads.
type unframer struct {
	skip    int // bytes of the preface, or of a frame that does not matter
	header  [9]byte
	have    int // of header
	stream  uint32
	data    int  // bytes of a DATA frame that are still to come
	padded  bool // the next one tells how many of them are padding
	padding int  // bytes of padding behind the data
	ends    bool

	open  map[uint32]*arriving
	bytes int64 // of messages that are not complete
}

// arriving is the message of a stream that is under way.
type arriving struct {
	prefix [5]byte
	have   int   // of prefix
	left   int64 // bytes of the message that are to come
	got    int64 // that have come
}

const (
	clientPreface = 24 // bytes
	frameData     = 0
	frameReset    = 3
	flagEndStream = 1
	flagPadded    = 8
)

// read follows the next bytes.
func (u *unframer) read(b []byte) {
	for len(b) > 0 {
		switch {
		case u.skip > 0:
			n := min(u.skip, len(b))
			u.skip, b = u.skip-n, b[n:]
		case u.data > 0:
			b = u.readData(b)
		default:
			n := copy(u.header[u.have:], b)
			b = b[n:]
			if u.have += n; u.have == len(u.header) {
				u.have = 0
				u.begin()
			}
		}
	}
}

// begin begins a frame.
func (u *unframer) begin() {
	size := int(u.header[0])<<16 | int(u.header[1])<<8 | int(u.header[2])
	kind, flags := u.header[3], u.header[4]
	u.stream = binary.BigEndian.Uint32(u.header[5:]) & (1<<31 - 1)
	u.ends = flags&flagEndStream != 0
	if kind != frameData {
		if u.skip = size; kind == frameReset || u.ends && kind == 1 {
			u.forget(u.stream)
		}
		return
	}
	if u.ends && u.open[u.stream] == nil { // a request in one frame: it is complete
		u.skip = size
		return
	}
	u.data, u.padded = size, flags&flagPadded != 0
	u.finish()
}

// readData follows a part of a DATA frame.
func (u *unframer) readData(b []byte) []byte {
	if u.padded {
		u.padded = false
		u.padding = min(int(b[0]), u.data-1) // more is a mistake, at which gRPC closes the connection
		u.data -= 1 + u.padding
		u.finish()
		return b[1:]
	}
	n := min(u.data, len(b))
	u.message(b[:n])
	u.data -= n
	u.finish()
	return b[n:]
}

// finish does what is due when a DATA frame has been read.
func (u *unframer) finish() {
	if u.data > 0 {
		return
	}
	u.skip, u.padding = u.padding, 0
	if u.ends {
		u.forget(u.stream)
	}
}

// message follows bytes of a stream.
func (u *unframer) message(b []byte) {
	m := u.open[u.stream]
	if m == nil {
		if u.open == nil {
			u.open = make(map[uint32]*arriving)
		}
		m = &arriving{}
		u.open[u.stream] = m
	}
	for len(b) > 0 {
		if m.left == 0 {
			n := copy(m.prefix[m.have:], b)
			b = b[n:]
			if m.have += n; m.have == len(m.prefix) {
				m.have, m.left = 0, int64(binary.BigEndian.Uint32(m.prefix[1:]))
			}
			continue
		}
		n := min(m.left, int64(len(b)))
		b = b[n:]
		m.got += n
		u.bytes += n
		if m.left -= n; m.left == 0 {
			u.bytes -= m.got
			m.got = 0
		}
	}
}

func (u *unframer) forget(stream uint32) {
	if m := u.open[stream]; m != nil {
		u.bytes -= m.got
		delete(u.open, stream)
	}
}
