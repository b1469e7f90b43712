package main

import "slices"

// Fan-out over NATS: the pieces of a request are published with one inbox, and dealt out by the queue subscription. The
// answers are gathered in the inbox by hand, since nats.go's Request takes one only.
func natsFanOutCaller(j *job) (*part, error) {
	return natsInboxCaller(j, func(in *natsInbox, i int, s *slot) error {
		for k := range s.pieces() {
			if err := in.publish(i, s.piece(k)); err != nil {
				return err
			}
		}
		return nil
	}, func(s *slot, answer []byte) (bool, error) {
		err := s.checkPiece(answer)
		return !slices.Contains(s.seen, false), err
	})
}
