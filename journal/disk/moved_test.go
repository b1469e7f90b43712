package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/replyq/replyq/journal/disk"
)

// TestMoved: what was moved is opened only to be moved again, and for good when the mark is removed.
func TestMoved(t *testing.T) {
	disk.NoLeaks(t)
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := disk.Open(dir, disk.Options{AllowMemory: true, Moving: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open what is not there to move it: %v, want ErrNotExist", err)
	}
	s := open(t, dir, disk.Options{})
	if _, err := journalOf(t, s, 0).Append(t.Context(), []byte("batch")); err != nil {
		t.Fatal(err)
	}
	if err := s.MarkMoved("another place"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := disk.Open(dir, disk.Options{AllowMemory: true})
	if !errors.Is(err, disk.ErrMoved) || !strings.Contains(err.Error(), "another place") {
		t.Errorf("Open what was moved: %v, want ErrMoved and where", err)
	}
	s = open(t, dir, disk.Options{Moving: true})
	if moved, err := s.Moved(); err != nil || !moved {
		t.Errorf("Moved() = %v, %v, want true", moved, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	for r, err := range journalOf(t, open(t, dir, disk.Options{}), 0).Read(t.Context(), 0) {
		if err != nil || string(r.Batch) != "batch" {
			t.Errorf("what is in it: %q, %v", r.Batch, err)
		}
	}
}
