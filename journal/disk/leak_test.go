package disk

import (
	"testing"

	"go.uber.org/goleak"
)

// noLeaks checks at the end of a test that no goroutine of it is left. Tests in which a disk fails or hangs do not call it:
// who is held then stays held, see [gate], which is why there is no check over all tests.
func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// NoLeaks is for the tests outside of the package.
var NoLeaks = noLeaks //nolint:gochecknoglobals // only in tests
