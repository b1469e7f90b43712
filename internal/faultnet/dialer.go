package faultnet

import (
	"context"
	"net"
	"sync"
)

// A Dialer makes connections that fail. Its fields are set before it is used.
type Dialer struct {
	// Dial makes the connections that are made to fail.
	Dial func(ctx context.Context) (net.Conn, error)
	// Plan gives the plan of the n-th connection, from 0. Default: good ones.
	Plan func(n int) Plan

	mu     sync.Mutex
	conns  []*Conn // all that were made
	healed bool
	down   bool
}

// errDown is the error of dialling while the network is down.
type errDown struct{}

// Error implements error.
func (errDown) Error() string { return "faultnet: the network is down" }

// DialContext makes the next connection; its signature is the one that gRPC wants.
func (d *Dialer) DialContext(ctx context.Context, _ string) (net.Conn, error) {
	d.mu.Lock()
	down := d.down
	d.mu.Unlock()
	if down {
		return nil, errDown{}
	}
	conn, err := d.Dial(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var plan Plan
	if d.Plan != nil && !d.healed {
		plan = d.Plan(len(d.conns))
	}
	c := Wrap(conn, plan)
	d.conns = append(d.conns, c)
	return c, nil
}

// Conns returns all connections that were made so far.
func (d *Dialer) Conns() []*Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*Conn(nil), d.conns...)
}

// Cut cuts all connections.
func (d *Dialer) Cut() {
	for _, c := range d.Conns() {
		c.Cut()
	}
}

// Swallow makes all connections half-open, and has no new ones made until Heal.
func (d *Dialer) Swallow() {
	d.mu.Lock()
	d.down = true
	d.mu.Unlock()
	for _, c := range d.Conns() {
		c.Swallow()
	}
}

// Heal makes good connections from now on, and cuts the others.
func (d *Dialer) Heal() {
	d.mu.Lock()
	d.healed, d.down = true, false
	d.mu.Unlock()
	d.Cut()
}
