package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A relay of bytes over TCP: each of the caller's connections is joined with one of the worker's. There is no protocol
// but the payload's fixed size, so it is what two hops can cost at least. All answers that one read brings are answered
// by one write.

// relayBuffer is how much one read takes.
const relayBuffer = 64 << 10

func tcpRelayServer(*job) (*part, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{workers: make(chan net.Conn, 1024)}
	r.wg.Go(func() { r.accept(l) })
	return &part{addr: l.Addr().String(), close: func() {
		_ = l.Close() // it was open
		r.closeAll()
		r.wg.Wait()
	}}, nil
}

// A relay joins connections. The first byte of one tells what it is.
type relay struct {
	workers chan net.Conn
	wg      sync.WaitGroup

	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

func (r *relay) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns = append(r.conns, c)
		if r.closed {
			_ = c.Close() // as closeAll would have
		}
		r.mu.Unlock()
		kind := make([]byte, 1)
		if _, err := io.ReadFull(c, kind); err != nil {
			return
		}
		if kind[0] == 'w' {
			r.workers <- c
			continue
		}
		w := <-r.workers // they came first
		r.wg.Go(func() { copyBytes(w, c) })
		r.wg.Go(func() { copyBytes(c, w) })
	}
}

func (r *relay) closeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, c := range r.conns {
		_ = c.Close() // the other end may have done so
	}
}

// copyBytes is io.Copy through memory: splicing small messages inside the kernel costs more calls than it saves bytes.
func copyBytes(to io.Writer, from io.Reader) {
	b := make([]byte, relayBuffer)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// relayConns opens connections and says of what kind they are.
func relayConns(j *job, kind byte) (conns []net.Conn, closeAll func(), err error) {
	closeAll = func() {
		for _, c := range conns {
			_ = c.Close() // the run is over
		}
	}
	for range j.Shape.Connections {
		c, err := net.DialTimeout("tcp", j.Addr, connectTimeout)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, c)
		if _, err := c.Write([]byte{kind}); err != nil {
			closeAll()
			return nil, nil, err
		}
	}
	return conns, closeAll, nil
}

func tcpRelayWorker(j *job) (*part, error) {
	conns, closeConns, err := relayConns(j, 'w')
	if err != nil {
		return nil, err
	}
	var handled atomic.Int64
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			var answers []byte
			_ = readFrames(c, j.Shape.Payload, func(frames []byte) error { // ends with its connection
				answers = answers[:0]
				for ; len(frames) > 0; frames = frames[j.Shape.Payload:] {
					var err error
					if answers, err = appendAnswer(answers, frames[:j.Shape.Payload]); err != nil {
						fatal(err)
					}
					handled.Add(1)
				}
				_, err := c.Write(answers)
				return err
			})
		})
	}
	return &part{handled: &handled, close: func() { closeConns(); wg.Wait() }}, nil
}

// errResting ends a reader whose load is over.
var errResting = errors.New("the load is over")

// readFrames calls f with all the whole frames that a read has completed.
func readFrames(c io.Reader, size int, f func(frames []byte) error) error {
	b := make([]byte, max(relayBuffer, 2*size))
	have := 0
	for {
		n, err := c.Read(b[have:])
		if err != nil {
			return err
		}
		have += n
		whole := have - have%size
		if whole == 0 {
			continue
		}
		if err := f(b[:whole]); err != nil {
			return err
		}
		have = copy(b, b[whole:have])
	}
}

func tcpRelayCaller(j *job) (*part, error) {
	conns, closeAll, err := relayConns(j, 'c')
	if err != nil {
		return nil, err
	}
	return &part{close: closeAll, run: func(l *load) error {
		var wg sync.WaitGroup
		for i, slots := range l.split(len(conns)) {
			wg.Go(func() {
				if err := relayCalls(conns[i], slots, j.Shape.Payload); !errors.Is(err, errResting) {
					l.fail(fmt.Errorf("relay: %w", err))
				}
			})
		}
		err := l.wait()
		if err != nil {
			closeAll()
		}
		wg.Wait()
		return err
	}}, nil
}

// relayCalls keeps a request of each slot in flight; answers come in the order of the requests. It always ends with an
// error, errResting if all went well.
func relayCalls(c net.Conn, slots []*slot, size int) error {
	var requests []byte
	var order []*slot // in flight
	ask := func(s *slot) {
		requests = append(requests, s.next()...)
		order = append(order, s)
	}
	for _, s := range slots {
		ask(s)
	}
	if _, err := c.Write(requests); err != nil {
		return err
	}
	return readFrames(c, size, func(frames []byte) error {
		requests = requests[:0]
		n := len(frames) / size
		answered := order[:n]
		order = order[n:]
		for i, s := range answered {
			if s.answer(frames[i*size : (i+1)*size]) {
				ask(s)
			}
		}
		if len(requests) > 0 {
			if _, err := c.Write(requests); err != nil {
				return err
			}
		}
		if len(order) == 0 {
			return errResting
		}
		return nil
	})
}
