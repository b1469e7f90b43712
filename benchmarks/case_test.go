package main

import (
	"io"
	"slices"
	"testing"
)

// Whatever a run asks of a child process is there.
func TestCasesAreWhole(t *testing.T) {
	names := make(map[string]bool)
	for _, c := range cases() {
		if names[c.Name] {
			t.Errorf("case %s is there twice", c.Name)
		}
		names[c.Name] = true
		if c.Name == "" || c.About == "" || (c.Shapes == nil) == (c.run == nil) {
			t.Errorf("case %q lacks something", c.Name)
		}
		var systems []string
		for _, s := range c.Systems {
			systems = append(systems, s.System)
		}
		for _, s := range c.Systems {
			if c.run == nil && (s.server == nil || s.caller == nil || c.settles && s.worker == nil) {
				t.Errorf("%s/%s lacks a role", c.Name, s.System)
			}
			for _, base := range s.versus {
				if base == s.System || !slices.Contains(systems, base) {
					t.Errorf("%s/%s is compared with %s, which does not take part", c.Name, s.System, base)
				}
			}
			j := &job{Case: c.Name, System: s.System, Role: roleServer}
			if start, err := starterOf(j); err != nil || start == nil {
				t.Errorf("starterOf(%+v) = %v", j, err)
			}
		}
		for _, quick := range []bool{true, false} {
			if c.Shapes == nil {
				continue
			}
			for _, sh := range c.Shapes(quick) {
				if sh.InFlight < sh.Connections || sh.Connections < 1 || sh.Payload < minPayload || sh.requestBytes() < minPayload {
					t.Errorf("%s: shape %+v cannot be", c.Name, sh)
				}
			}
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"-shapes", "1x1,64x2", "-payload", "1048576", "-rate", "300"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	got := o.shapesOf(streamedReplies())
	want := []shape{
		{InFlight: 1, Connections: 1, Payload: 1 << 20, Request: 64, Answers: 32, Rounds: pairs},
		{InFlight: 64, Connections: 2, Payload: 1 << 20, Request: 64, Answers: 32},
	}
	if !slices.Equal(got, want) {
		t.Errorf("shapes = %+v, want %+v", got, want)
	}
	if got := o.shapesOf(openLoop())[0].Rate; got != 300 {
		t.Errorf("-rate 300 gives %d", got)
	}
	if o, err = parseOptions([]string{"-shapes", "64x2-json,64x2"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got := o.shapesOf(clusterEnqueue()); len(got) != 2 || !got[0].Text || got[1].Text {
		t.Errorf("shapes = %+v, want one with JSON and one without", got)
	}
	for _, args := range [][]string{{"-payload", "3"}, {"-only", "("}, {"-shapes", "1x2"}, {"-shapes", "many"}, {"-shapes", "64x2-text"}, {"-versus", "x"}, {"-no"}} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("parseOptions(%q) succeeds", args)
		}
	}
}
