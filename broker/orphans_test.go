package broker_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// A crash is a broker over several shards whose journals outlive it, and can be made to fail one by one.
type crash struct {
	*bed
	journals [5]*journal.Memory
	fails    [5]bool
	runs     int
}

func inCrash(t *testing.T, test func(t *testing.T, c *crash)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		keys, err := handles.NewEphemeral()
		if err != nil {
			t.Fatal(err)
		}
		c := &crash{bed: &bed{t: t, keys: keys, shards: 5}}
		c.open()
		test(t, c)
		c.close()
	})
}

// open starts a broker with what the journals had kept when they failed.
func (c *crash) open() {
	for i, old := range c.journals {
		fresh := &journal.Memory{BeforeAppend: func([]byte) error {
			if c.fails[i] {
				return errors.New("the server was killed")
			}
			return nil
		}}
		if old != nil {
			for record, err := range old.Read(c.t.Context(), 0) {
				if err == nil {
					_, err = fresh.Append(c.t.Context(), record.Batch)
				}
				if err != nil {
					c.t.Fatal(err)
				}
			}
		}
		c.journals[i] = fresh
	}
	b, err := broker.Open(broker.Config{Shards: 5, Store: 3, Journal: func(n uint16) (journal.Journal, error) {
		return keptOpen{c.journals[n]}, nil
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.b = b
	c.runs++
}

func (c *crash) close() {
	synctest.Wait()
	if err := c.b.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.fails = [5]bool{}
}

// join attaches a client that no run has seen before.
func (c *crash) join(name string) *client { return c.attach(fmt.Sprint(name, c.runs)) }

// shardOf is where a queue is.
func (c *crash) shardOf(p *client, queue string) uint16 {
	return expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: queue})).Send.Shard
}

// TestCrashWhileAMessageIsPrepared: a pipe forgets a message that was never stored.
func TestCrashWhileAMessageIsPrepared(t *testing.T) {
	inCrash(t, func(t *testing.T, c *crash) {
		for _, queue := range manyQueues {
			p := c.join("p" + queue)
			opened := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: queue}))
			send, receive := c.keys.Mint(opened.Send), c.keys.Mint(opened.Receive)
			c.fails[c.shardOf(p, "home")] = true
			p.do(&broker.Enqueue{Queue: "home", ReplyTo: send, Cargo: broker.Cargo{
				Handles: []broker.NamedHandle{{Name: "h", Handle: receive}},
			}})
			c.close()
			c.open()
			p = c.join("again" + queue)
			synctest.Wait()
			at := expect[*broker.Description](p, p.do(&broker.Describe{Handle: receive}))
			if len(at.Carriers) != 0 || at.State != broker.WaitOutside {
				t.Errorf("queue %s: the pipe waits for %+v, want nothing that the server keeps", queue, at.Carriers)
			}
		}
	})
}

// TestCrashWhileAMessageIsOnItsWay: it gets its place in the other shard, whatever comes there before it.
func TestCrashWhileAMessageIsOnItsWay(t *testing.T) {
	inCrash(t, func(t *testing.T, c *crash) {
		for _, queue := range manyQueues {
			p, w := c.join("p"+queue), c.join("w"+queue)
			home, there := c.shardOf(p, "home"), c.shardOf(p, queue)
			if home == there {
				continue
			}
			opened := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: "home"}))
			p.enqueue("home", handles.Handle{})
			d := w.delivered(w.consume("home"))
			c.fails[there] = true
			w.do(&broker.Settle{Lease: d.lease, Action: broker.Ack, Messages: []*broker.Enqueue{
				{Queue: queue, Body: []byte("sent"), ReplyTo: c.keys.Mint(opened.Send)},
			}})
			c.close()
			c.open()
			p = c.join("again" + queue)
			p.do(&broker.Enqueue{Queue: queue, Body: []byte("first")}) // before what was sent is carried on
			synctest.Wait()
			list := expect[*broker.MessageList](p, p.do(&broker.ListMessages{Queue: queue, Limit: 10}))
			if len(list.Messages) != 2 || list.Messages[0].Message == list.Messages[1].Message {
				t.Errorf("queue %s: got %+v, want two messages", queue, list.Messages)
			}
			at := expect[*broker.Description](p, p.do(&broker.Describe{Handle: c.keys.Mint(opened.Receive)}))
			if len(at.Carriers) != 1 {
				t.Errorf("queue %s: the pipe knows %d carriers, want the message that was sent", queue, len(at.Carriers))
			}
		}
	})
}
