package main

import "fmt"

// measureShape measures systems in one shape, in turn.
func (b *bench) measureShape(c *benchCase, sh shape, systems []*contestant) (trios []*trio, err error) {
	defer func() {
		for _, t := range trios {
			t.stop()
		}
	}()
	for _, s := range systems {
		t, err := startTrio(c, s, sh, b.options)
		if err != nil {
			return trios, err
		}
		trios = append(trios, t)
		if _, err := t.measure(b.plan.Warmup); err != nil {
			return trios, err
		}
	}
	if err := b.profileAll(trios, doProfile); err != nil {
		return trios, err
	}
	if err := b.measureRounds(trios); err != nil {
		return trios, err
	}
	return trios, b.profileAll(trios, doProfiled)
}

// measureRounds measures trios that are warm, round after round.
func (b *bench) measureRounds(trios []*trio) error {
	rounds, slice := b.plan.roundsOf(trios[0].shape)
	for round := range rounds {
		b.progress(fmt.Sprintf("%s, %v: round %d of %d", trios[0].of.Name, trios[0].shape, round+1, rounds))
		for i := range trios {
			t := trios[(i+round)%len(trios)] // nobody always begins
			if round%2 == 1 {
				t = trios[(len(trios)-1-i+round)%len(trios)] // nor always follows the same one
			}
			s, err := t.measureQuiet(slice, b.options)
			if err != nil {
				return err
			}
			t.samples = append(t.samples, s)
		}
	}
	return nil
}

// profileAll begins, or ends, the profiles of all processes, if they are asked for.
func (b *bench) profileAll(trios []*trio, do string) error {
	if !b.profile {
		return nil
	}
	for _, t := range trios {
		if err := t.profile(do, b.folder); err != nil {
			return err
		}
	}
	return nil
}
