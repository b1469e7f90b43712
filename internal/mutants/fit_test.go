package mutants

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// mutate returns a mutant's file with the mistake in it.
func (m *mutant) mutate(t *testing.T) string {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(src), m.from); n != 1 {
		t.Fatalf("%s: %d places in %s say %q, want one; move the mutant along with the code", m.name, n, m.file, m.from)
	}
	return strings.Replace(string(src), m.from, m.to, 1)
}

// TestMutantsFit checks that each mutant still has its place in the code.
func TestMutantsFit(t *testing.T) {
	for i := range list {
		m := &list[i]
		t.Run(m.name, func(t *testing.T) { m.mutate(t) })
	}
}
