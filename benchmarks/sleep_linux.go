package main

import (
	"errors"
	"syscall"
	"time"
)

// sleepUntil sleeps to within some 60 µs. The runtime's timers wake an idle process a millisecond late, which at a
// thousand requests a second and more would be most of the latency.
func sleepUntil(t time.Time) {
	for {
		left := time.Until(t)
		if left <= 0 {
			return
		}
		wait := syscall.NsecToTimespec(int64(left))
		if err := syscall.Nanosleep(&wait, nil); err != nil && !errors.Is(err, syscall.EINTR) {
			return // unreachable: the time is a valid one
		}
	}
}
