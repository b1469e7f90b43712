//go:build mutants

package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMutantsAreCaught runs the tests of each mutant; one of them must fail.
func TestMutantsAreCaught(t *testing.T) {
	caught := make([]string, 0, len(list))
	t.Cleanup(func() {
		t.Logf("%d of %d mutants were caught:\n%s", len(caught), len(list), strings.Join(caught, "\n"))
	})
	for i := range list {
		m := &list[i]
		t.Run(m.name, func(t *testing.T) {
			out, err := exec.Command("go", m.command(t)...).CombinedOutput()
			by := failed(string(out))
			switch {
			case err == nil:
				t.Errorf("not caught: %s", m.name)
			case len(by) == 0:
				t.Errorf("no test failed, but the go command did:\n%s", out)
			default:
				caught = append(caught, fmt.Sprintf("%-45s by %s", m.name, strings.Join(by, ", ")))
			}
		})
	}
}

// command is what go is to be told.
func (m *mutant) command(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	mutated := filepath.Join(dir, filepath.Base(m.file))
	original, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{mutated: []byte(m.mutate(t)), filepath.Join(dir, "overlay.json"): overlay} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"test", "-C", root, "-overlay", filepath.Join(dir, "overlay.json"), "-count=1", "-failfast", "-timeout=5m"}
	if m.run != "" {
		args = append(args, "-run", m.run)
	}
	return append(args, m.pkgs...)
}

// failed finds the names of tests that failed, or panicked.
func failed(out string) (names []string) {
	for _, match := range regexp.MustCompile(`(?m)^--- FAIL: (\S+)`).FindAllStringSubmatch(out, -1) {
		names = append(names, match[1])
	}
	if len(names) == 0 && strings.Contains(out, "panic:") {
		names = append(names, "a panic")
	}
	return names
}
