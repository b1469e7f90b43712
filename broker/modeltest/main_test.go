package modeltest

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// checks and steps are how many random histories there are for each test, and how long they are on average, unless
// -rapid.checks and -rapid.steps say otherwise. With the race detector there are fewer: the histories are not concurrent.
//
// The seed is always the same unless -rapid.seed gives another one, or 0 for one by chance: what CI checks should not change
// by itself. make soak searches on.
const (
	checks         = "1500"
	checksWithRace = "150"
	steps          = "50"
	seed           = "1"
)

func TestMain(m *testing.M) {
	flag.Parse()
	n := checks
	if raceDetector {
		n = checksWithRace
	}
	// The failing seed is enough to repeat a failure: no files.
	for name, value := range map[string]string{"rapid.checks": n, "rapid.steps": steps, "rapid.seed": seed, "rapid.nofailfile": "true", "rapid.shrinktime": "10s"} {
		if f := flag.Lookup(name); !given(name) {
			if err := f.Value.Set(value); err != nil {
				os.Exit(2)
			}
		}
	}
	goleak.VerifyTestMain(m)
}

func given(name string) (yes bool) {
	flag.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}
