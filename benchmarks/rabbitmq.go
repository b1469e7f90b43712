package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// RabbitMQ with direct reply-to: the installed server, started for the run with nothing but its own folder; a queue whose
// worker acks nothing; answers that go straight to the caller's connection. Like nats-pipelined, the caller has a
// goroutine per connection that takes an answer and publishes the slot's next request.

const (
	rabbitQueue   = "bench.echo"
	rabbitReplyTo = "amq.rabbitmq.reply-to" // the name under which a channel gets answers
)

// rabbitCommand finds the server. Debian's command on the path changes the user, so the script behind it comes first.
func rabbitCommand() (string, error) {
	for _, name := range []string{"/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no rabbitmq-server is installed")
}

// rabbitMissing says why RabbitMQ is left out, if it is.
func rabbitMissing(o *options) string {
	if o.quick {
		return "it takes seconds to start"
	}
	if _, err := rabbitCommand(); err != nil {
		return err.Error()
	}
	return ""
}

func rabbitServer(*job) (*part, error) {
	command, err := rabbitCommand()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "replyq-bench-rabbitmq-")
	if err != nil {
		return nil, err
	}
	r := &rabbit{folder: folder}
	if err := r.start(command); err != nil {
		r.close()
		return nil, err
	}
	return &part{addr: r.addr, usage: func() (time.Duration, memory) { return groupUsage(r.cmd.Process.Pid) }, close: r.close}, nil
}

// A rabbit is a running server.
type rabbit struct {
	folder  string
	addr    string
	cmd     *exec.Cmd
	epmd    []string // the environment of the port mapper, which the server starts, and which stays
	exited  chan error
	release func() // the ports
}

func (r *rabbit) start(command string) error {
	ports, release, err := freePorts(3)
	if err != nil {
		return err
	}
	r.release = release
	r.addr = "amqp://guest:guest@127.0.0.1:" + ports[0] + "/"
	plugins := filepath.Join(r.folder, "plugins")
	if err := os.WriteFile(plugins, []byte("[].\n"), 0o600); err != nil {
		return err
	}
	r.epmd = append(os.Environ(), "HOME="+r.folder, "ERL_EPMD_PORT="+ports[2], "ERL_EPMD_ADDRESS=127.0.0.1")
	r.cmd = exec.Command(command)
	r.cmd.Env = append(r.epmd,
		"RABBITMQ_NODENAME=bench"+ports[0]+"@localhost",
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT="+ports[0], "RABBITMQ_DIST_PORT="+ports[1],
		"RABBITMQ_MNESIA_BASE="+r.folder, "RABBITMQ_LOG_BASE="+r.folder,
		"RABBITMQ_ENABLED_PLUGINS_FILE="+plugins, "RABBITMQ_CONFIG_FILE="+filepath.Join(r.folder, "none"),
		// As many threads as the other systems' processes have.
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S "+os.Getenv("GOMAXPROCS")+" -kernel inet_dist_use_interface {127,0,0,1}")
	r.cmd.SysProcAttr = ownGroup()
	if err := r.cmd.Start(); err != nil {
		return err
	}
	r.exited = make(chan error, 1)
	go func() { r.exited <- r.cmd.Wait() }()
	return r.ready()
}

// ready waits until the server takes connections.
func (r *rabbit) ready() error {
	end := time.After(startTimeout)
	for {
		c, err := amqp.Dial(r.addr)
		if err == nil {
			return c.Close()
		}
		select {
		case err := <-r.exited:
			r.exited <- err
			return fmt.Errorf("rabbitmq-server ended: %w", err)
		case <-end:
			return fmt.Errorf("rabbitmq-server is not ready after %v: %w", startTimeout, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// close ends the server at once: there is nothing to keep.
func (r *rabbit) close() {
	if r.exited != nil {
		killGroup(r.cmd.Process.Pid)
		<-r.exited //nolint:errcheck // it was killed
		r.killMapper()
	}
	if r.release != nil {
		r.release()
	}
	_ = os.RemoveAll(r.folder) // the system cleans up too
}

// killMapper ends the port mapper, which refuses as long as it has not noticed that the server is gone.
func (r *rabbit) killMapper() {
	for range 20 {
		epmd := exec.Command("epmd", "-kill")
		epmd.Env = r.epmd
		if out, _ := epmd.CombinedOutput(); !strings.Contains(string(out), "not allowed") {
			return // it is gone, or was not there
		}
		<-time.After(50 * time.Millisecond)
	}
}

// rabbitChannels opens a channel on each of a job's connections.
func rabbitChannels(j *job) (channels []*amqp.Channel, closeAll func(), err error) {
	var conns []*amqp.Connection
	closeAll = func() {
		for _, c := range conns {
			_ = c.Close() // the run is over
		}
	}
	for range j.Shape.Connections {
		c, err := amqp.Dial(j.Addr)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, c)
		channel, err := c.Channel()
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		channels = append(channels, channel)
	}
	return channels, closeAll, nil
}

func rabbitWorker(j *job) (*part, error) {
	channels, closeConns, err := rabbitChannels(j)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	var handled atomic.Int64
	closeAll := func() { closeConns(); wg.Wait() }
	for _, c := range channels {
		_, err := c.QueueDeclare(rabbitQueue, false, false, false, false, nil)
		var requests <-chan amqp.Delivery
		if err == nil {
			requests, err = c.Consume(rabbitQueue, "", true, false, false, false, nil)
		}
		if err != nil {
			closeAll()
			return nil, err
		}
		wg.Go(func() { rabbitAnswer(c, requests, &handled) })
	}
	return &part{handled: &handled, close: closeAll}, nil
}

// rabbitAnswer answers what comes, until the connection ends.
func rabbitAnswer(c *amqp.Channel, requests <-chan amqp.Delivery, handled *atomic.Int64) {
	for d := range requests {
		handled.Add(1) // before the caller can know of it
		answer, err := appendAnswer(nil, d.Body)
		if err == nil {
			err = c.PublishWithContext(context.Background(), "", d.ReplyTo, false, false,
				amqp.Publishing{CorrelationId: d.CorrelationId, Body: answer})
		}
		if err != nil {
			fatal(err)
		}
	}
}

func rabbitCaller(j *job) (*part, error) {
	channels, closeAll, err := rabbitChannels(j)
	if err != nil {
		return nil, err
	}
	answers := make([]<-chan amqp.Delivery, len(channels))
	for i, c := range channels {
		if answers[i], err = c.Consume(rabbitReplyTo, "", true, false, false, false, nil); err != nil {
			closeAll()
			return nil, err
		}
	}
	return &part{close: closeAll, run: func(l *load) error {
		var wg sync.WaitGroup
		for i, slots := range l.split(len(channels)) {
			wg.Go(func() {
				if err := rabbitCalls(l, channels[i], answers[i], slots); err != nil {
					l.fail(err)
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

// rabbitCalls keeps a request of each slot in flight, until all are at rest.
func rabbitCalls(l *load, c *amqp.Channel, answers <-chan amqp.Delivery, slots []*slot) error {
	ask := func(i int) error {
		return c.PublishWithContext(context.Background(), "", rabbitQueue, false, false,
			amqp.Publishing{CorrelationId: strconv.Itoa(i), ReplyTo: rabbitReplyTo, Body: slots[i].next()})
	}
	for i := range slots {
		if err := ask(i); err != nil {
			return err
		}
	}
	for left := len(slots); left > 0 && !l.hasFailed(); {
		d, ok := <-answers
		if !ok {
			return errors.New("the connection ended")
		}
		i, err := strconv.Atoi(strings.TrimSpace(d.CorrelationId))
		if err != nil || i >= len(slots) {
			return fmt.Errorf("an answer to %q, which nobody asked", d.CorrelationId)
		}
		if err := slots[i].check(d.Body); err != nil {
			return err
		}
		if !slots[i].finish() {
			left--
		} else if err := ask(i); err != nil {
			return err
		}
	}
	return nil
}
