package freeport

import (
	"net"
	"testing"
)

// A reserved address can be listened on, and is reserved for one only, until it is released.
func TestReserve(t *testing.T) {
	t.Parallel()
	addr, release, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	if second, err := reserve(addr); err == nil {
		second()
		t.Errorf("reserve(%s) a second time = nil, want an error", addr)
	}
	for range 2 { // a server and the one that is started in its place
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("listen on %s, which is reserved: %v", addr, err)
		}
		_ = l.Close()
	}
	release()
	again, err := reserve(addr)
	if err != nil {
		t.Fatalf("reserve(%s) after release = %v, want nil", addr, err)
	}
	again()
}

// An address that somebody listens on is not reserved, and nothing is kept of the attempt.
func TestReserveWhatIsTaken(t *testing.T) {
	t.Parallel()
	addr, release, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if release, err := reserve(addr); err == nil {
		release()
		t.Errorf("reserve(%s), which is listened on, = nil, want an error", addr)
	}
	_ = l.Close()
	release, err = reserve(addr)
	if err != nil {
		t.Fatalf("reserve(%s) when nobody listens on it any more = %v, want nil", addr, err)
	}
	release()
}
