package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// h2Frame is a frame of HTTP/2.
func h2Frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// grpcMessage is a message as gRPC frames it.
func grpcMessage(size int) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(size)), make([]byte, size)...)
}

// TestUnframer: what is under way is known after each frame, however the bytes come.
func TestUnframer(t *testing.T) {
	padded := func(data []byte, padding int) []byte {
		return append(append([]byte{byte(padding)}, data...), make([]byte, padding)...)
	}
	m := grpcMessage(1000)
	two := append(grpcMessage(10), grpcMessage(500)[:205]...)
	steps := []struct {
		name  string
		frame []byte
		want  int64
	}{
		{"settings", h2Frame(4, 0, 0, make([]byte, 18)), 0},
		{"headers", h2Frame(1, 4, 1, make([]byte, 77)), 0},
		{"whole message", h2Frame(0, flagEndStream, 1, m), 0},
		{"half a message", h2Frame(0, 0, 3, m[:405]), 400},
		{"half of another one", h2Frame(0, 0, 5, m[:205]), 600},
		{"ping", h2Frame(6, 0, 0, make([]byte, 8)), 600},
		{"the rest of the first", h2Frame(0, flagEndStream, 3, m[405:]), 200},
		{"reset of the other one", h2Frame(frameReset, 0, 5, make([]byte, 4)), 0},
		{"whole message of a stream that goes on", h2Frame(0, 0, 7, m), 0},
		{"another one and a part", h2Frame(0, 0, 7, two), 200},
		{"nothing", h2Frame(0, 0, 7, nil), 200},
		{"padding is no part of it", h2Frame(0, flagPadded, 7, padded(make([]byte, 100), 200)), 300},
		{"only padding", h2Frame(0, flagPadded, 7, padded(nil, 50)), 300},
		{"end without data", h2Frame(0, flagEndStream, 7, nil), 0},
		{"a prefix in parts", h2Frame(0, 0, 9, m[:3]), 0},
		{"and the rest", h2Frame(0, 0, 9, m[3:8]), 3},
		{"trailers", h2Frame(1, 4|flagEndStream, 9, []byte("x")), 0},
		{"end with padding", h2Frame(0, flagPadded|flagEndStream, 11, padded(m[:100], 9)), 0},
		{"part with padding to the end", h2Frame(0, flagPadded, 11, padded(m[:105], 255)), 100},
		{"end with padding alone", h2Frame(0, flagPadded|flagEndStream, 11, padded(nil, 255)), 0},
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		u := unframer{skip: clientPreface}
		u.read(make([]byte, clientPreface))
		for _, s := range steps {
			for rest := s.frame; len(rest) > 0; {
				n := 1 + random.IntN(min(len(rest), 1+random.IntN(600)))
				u.read(rest[:n])
				rest = rest[n:]
			}
			if u.bytes != s.want {
				t.Fatalf("%s: %d bytes under way, want %d", s.name, u.bytes, s.want)
			}
		}
		if len(u.open) > 0 {
			t.Fatalf("%d streams are remembered, all have ended", len(u.open))
		}
	}
}

// FuzzUnframer: no bytes are counted twice, or taken off twice, and it never stops.
func FuzzUnframer(f *testing.F) {
	f.Add(append(h2Frame(0, 0, 3, grpcMessage(100)[:50]), h2Frame(0, flagPadded|flagEndStream, 3, make([]byte, 300))...))
	f.Add(h2Frame(0, flagPadded, 1, []byte{255}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var u, byOne unframer
		u.read(b)
		for i := range b {
			byOne.read(b[i : i+1])
		}
		sum := int64(0)
		for _, m := range u.open {
			sum += m.got
		}
		if u.bytes != sum || u.bytes < 0 || u.bytes > int64(len(b)) || byOne.bytes != u.bytes || len(byOne.open) != len(u.open) {
			t.Errorf("%x: %d bytes under way, %d in streams, %d when read one by one", b, u.bytes, sum, byOne.bytes)
		}
	})
}

// arrivalBed has connections of which the other ends are the test's.
type arrivalBed struct {
	*connections
	held int64
	mu   sync.Mutex
}

func newArrivalBed(limit int64) *arrivalBed {
	b := &arrivalBed{}
	b.connections = &connections{most: 1000, log: slog.New(slog.DiscardHandler), hold: func(n int64) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.held += n
	}}
	b.arrivals = newArrivals(limit, b.hold, b.log)
	return b
}

// connect returns the client's end of a connection, and where its bytes come out in the end; it fails when the
// connection does.
func (b *arrivalBed) connect() (net.Conn, <-chan error) {
	client, server := net.Pipe()
	b.enter("x")
	c := b.counted(server, "x")
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
		_ = c.Close() // as gRPC does
		done <- err
	}()
	return client, done
}

// TestArrivals: with too much under way, large messages become complete one after the other, and all do; small ones pass.
func TestArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, size = 16 << 20, 1 << 20
		b := newArrivalBed(limit)
		message := grpcMessage(size)
		var group sync.WaitGroup
		for range 20 {
			client, done := b.connect()
			group.Go(func() {
				_, _ = client.Write(make([]byte, clientPreface))
				for stream := uint32(1); stream < 6; stream += 2 {
					for rest := message; len(rest) > 0; {
						n := min(len(rest), 16<<10)
						flags := byte(0)
						if n == len(rest) {
							flags = flagEndStream
						}
						if _, err := client.Write(h2Frame(0, flags, stream, rest[:n])); err != nil {
							t.Errorf("a message was cut: %v", err)
							return
						}
						rest = rest[n:]
						if total := b.arrivals.total.Load(); total > limit/arrivalShare+3*freeArrival+2*size {
							t.Errorf("%d bytes are under way, want not much more than %d", total, limit/arrivalShare)
						}
					}
				}
				_ = client.Close()
				if err := <-done; err != nil {
					t.Errorf("the connection ended with %v", err)
				}
			})
		}
		group.Wait()
		if b.arrivals.total.Load() != 0 || b.held != 0 || b.open != 0 || len(b.arrivals.conns) != 0 {
			t.Errorf("%d bytes, %d held, %d connections are left", b.arrivals.total.Load(), b.held, b.open)
		}
	})
}

// TestArrivalsOfSlow: who keeps others waiting with half a message is cut, so that they get on; who has too much is cut
// at once.
func TestArrivalsOfSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 16 << 20
		b := newArrivalBed(limit)
		slow, slowDone := b.connect()
		_, _ = slow.Write(make([]byte, clientPreface))
		_, _ = slow.Write(h2Frame(0, 0, 1, grpcMessage(4 << 20)[:3<<20]))
		synctest.Wait()
		if !b.arrivals.short() {
			t.Fatal("there is not much under way")
		}
		// A small message passes; a large one waits, until the slow one has gone.
		began := time.Now()
		honest, honestDone := b.connect()
		_, _ = honest.Write(make([]byte, clientPreface))
		_, _ = honest.Write(h2Frame(0, flagEndStream, 1, grpcMessage(1000)))
		if time.Since(began) > 0 {
			t.Errorf("a small message took %v", time.Since(began))
		}
		large := grpcMessage(1 << 20)
		for rest := large; len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
			if _, err := honest.Write(h2Frame(0, 0, 3, rest[:min(len(rest), 16<<10)])); err != nil {
				t.Fatalf("an honest message was cut: %v", err)
			}
		}
		_ = honest.Close()
		if err := <-honestDone; err != nil {
			t.Errorf("the honest connection ended with %v", err)
		}
		// Another one needs the turn too, and waits for nobody who does nothing.
		other, otherDone := b.connect()
		_, _ = other.Write(make([]byte, clientPreface))
		for range 2 {
			if _, err := other.Write(h2Frame(0, 0, 1, large[:freeArrival+100])); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-slowDone; err == nil {
			t.Error("who kept others waiting was not cut")
		}
		if took := time.Since(began); took > 3*turnLimit {
			t.Errorf("others waited for %v", took)
		}
		_ = other.Close()
		if err := <-otherDone; err != nil {
			t.Errorf("the other connection ended with %v", err)
		}
		_ = slow.Close()

		greedy, greedyDone := b.connect()
		_, _ = greedy.Write(make([]byte, clientPreface))
		var err error
		for stream := uint32(1); err == nil; stream += 2 {
			_, err = greedy.Write(h2Frame(0, 0, stream, grpcMessage(8 << 20)[:7<<20]))
		}
		if err := <-greedyDone; !errors.Is(err, errTooMuch) {
			t.Errorf("a connection with everything under way ended with %v, want %v", err, errTooMuch)
		}
		if b.arrivals.total.Load() != 0 || b.held != 0 {
			t.Errorf("%d bytes are under way, %d held, with all connections gone", b.arrivals.total.Load(), b.held)
		}
	})
}

// BenchmarkUnframer follows 64 KiB of session frames.
func BenchmarkUnframer(b *testing.B) {
	one := h2Frame(0, 0, 1, grpcMessage(4000))
	all := bytes.Repeat(one, 16)
	u := unframer{}
	b.SetBytes(int64(len(all)))
	for b.Loop() {
		u.read(all)
	}
}
