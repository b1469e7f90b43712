package main

import "os"

// What no durable system can be faster than: the bytes of one message, written to the end of a file and fsynced.

func bareServer(*job) (*part, error) { return &part{close: func() {}}, nil }

func bareCaller(*job) (*part, error) {
	f, err := os.CreateTemp("", "replyq-bench-fsync-")
	if err != nil {
		return nil, err
	}
	p := &part{close: func() {
		_ = f.Close() // of no use any more
		_ = os.Remove(f.Name())
	}}
	p.run = func(l *load) error {
		for _, s := range l.slots { // one after the other: it is the shape of one in flight
			for more := true; more; more = s.finish() {
				if _, err := f.Write(s.next()); err != nil {
					return err
				}
				if err := f.Sync(); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return p, nil
}
