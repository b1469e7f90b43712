package faultnet_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/replyq/replyq/internal/faultnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What passes is what the plan lets pass, byte for byte and at its time.
func TestPlans(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789"), 10)
	cut := func(after int64) faultnet.Way { return faultnet.Way{Faults: []faultnet.Fault{{After: after}}} }
	for name, test := range map[string]struct {
		way  faultnet.Way
		want int           // bytes
		took time.Duration // until then
	}{
		"good":           {faultnet.Way{}, 100, 0},
		"cut at once":    {cut(0), 0, 0},
		"cut after 1":    {cut(1), 1, 0},
		"cut after 99":   {cut(99), 99, 0},
		"pieces":         {faultnet.Way{Piece: 30, Delay: time.Second}, 100, 4 * time.Second},
		"stall":          {faultnet.Way{Faults: []faultnet.Fault{{After: 7, Stall: time.Minute}}}, 100, time.Minute},
		"stall, and cut": {faultnet.Way{Faults: []faultnet.Fault{{After: 7, Stall: time.Minute}, {After: 9}}}, 9, time.Minute},
	} {
		for _, out := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := net.Pipe()
					plan := faultnet.Plan{In: test.way}
					var from, to net.Conn = far, nil
					if out {
						plan = faultnet.Plan{Out: test.way}
					}
					c := faultnet.Wrap(near, plan)
					to = c
					if out {
						from, to = c, far
					}
					began := time.Now()
					go func() {
						_, _ = from.Write(sent) // the reader tells how far it came
						_ = from.Close()
					}()
					got, _ := io.ReadAll(to)
					if !bytes.Equal(got, sent[:test.want]) {
						t.Errorf("%d bytes came, want the first %d", len(got), test.want)
					}
					if took := time.Since(began); took < test.took || took > test.took+time.Second {
						t.Errorf("it took %v, want %v", took, test.took)
					}
					_ = to.Close()
				})
			})
		}
	}
}

// A half-open connection takes everything, gives nothing, and tells nobody.
func TestSwallow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		d := faultnet.Dialer{Dial: func(context.Context) (net.Conn, error) { return near, nil }}
		c, err := d.DialContext(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		d.Swallow()
		if n, err := c.Write([]byte("lost")); n != 4 || err != nil {
			t.Errorf("Write() = %d, %v, want all to be taken", n, err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		if _, err := far.Write([]byte("x")); err != nil {
			t.Errorf("the far side: %v", err)
		}
		synctest.Wait()
		select {
		case err := <-read:
			t.Errorf("Read() = %v, want it to wait", err)
		default:
		}
		if _, err := d.DialContext(t.Context(), ""); err == nil {
			t.Error("a connection was made while the network is down")
		}
		d.Heal()
		if err := <-read; err == nil {
			t.Error("Read() = nil after the cut")
		}
		_ = far.Close()
	})
}
