package server_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/replyq/replyq/internal/journalflag"
	"github.com/replyq/replyq/internal/testbed"
)

func TestMain(m *testing.M) {
	testbed.Prepare(journalflag.Set)
	goleak.VerifyTestMain(journalflag.Main{M: m})
}
