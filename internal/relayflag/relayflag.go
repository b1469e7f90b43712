// Package relayflag lets tests run against a server that relays: go test ./server/... -args -relay.
package relayflag

import "flag"

var on = flag.Bool("relay", false, "tests talk to a replica that relays to the one that serves") //nolint:gochecknoglobals // a flag

// On reports whether tests shall talk to a server that relays.
func On() bool { return *on }
