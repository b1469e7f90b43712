//go:build !linux

package main

import "time"

// sleepUntil sleeps as well as the runtime can.
func sleepUntil(t time.Time) { <-time.After(time.Until(t)) }
