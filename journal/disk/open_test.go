package disk_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal/disk"
)

// refuses wants Open to fail with an error of a kind, if any, whose text says all of these.
func refuses(t *testing.T, dir string, o disk.Options, kind error, says ...string) {
	t.Helper()
	o.AllowMemory = true
	s, err := disk.Open(dir, o)
	if err == nil {
		_ = s.Close()
		t.Fatalf("Open succeeded; want an error that says %q", says)
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("Open: %v; want %v", err, kind)
	}
	for _, want := range says {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Open: %v; want it to say %q", err, want)
		}
	}
}

// made makes a store and closes it.
func made(t *testing.T, o disk.Options) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "deep", "store")
	s := open(t, dir, o)
	if _, err := journalOf(t, s, 0).Append(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func edit(t *testing.T, name string, change func(string) string) {
	t.Helper()
	old, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(change(string(old))), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeysAndModes(t *testing.T) {
	dir := made(t, disk.Options{})
	keys := filepath.Join(dir, "handle-keys")
	file, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handles.ParseKeys("c", file); err != nil {
		t.Errorf("the key ring of a new store: %v", err)
	}
	for name, want := range map[string]os.FileMode{dir: 0o700, keys: 0o600, filepath.Join(dir, "log"): 0o700} {
		if info, err := os.Stat(name); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", name, info.Mode().Perm(), err, want)
		}
	}

	if runtime.GOOS != "windows" {
		if err := os.Chmod(keys, 0o644); err != nil {
			t.Fatal(err)
		}
		refuses(t, dir, disk.Options{}, nil, keys, "chmod 600")
		if err := os.Chmod(keys, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit(t, keys, func(s string) string { return strings.Replace(s, " mint ", " accept ", 1) })
	refuses(t, dir, disk.Options{}, disk.ErrDamaged, keys, "mint")
	edit(t, keys, func(s string) string { return s + handles.GenerateKeyLine(1, "mint", testTime) + "\n" })
	if s := open(t, dir, disk.Options{}); s.Keys() != keys {
		t.Errorf("Keys() = %s, want %s", s.Keys(), keys)
	} else if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(keys); err != nil {
		t.Fatal(err)
	}
	refuses(t, dir, disk.Options{}, disk.ErrDamaged, keys, "backup", "new-key")
}

func TestRefusals(t *testing.T) {
	t.Run("another number of shards", func(t *testing.T) {
		refuses(t, made(t, disk.Options{Shards: 2}), disk.Options{Shards: 3}, nil, "2 shards", "start with 2")
	})
	t.Run("a newer layout", func(t *testing.T) {
		dir := made(t, disk.Options{})
		edit(t, filepath.Join(dir, "format"), func(s string) string { return strings.Replace(s, "replyq-store 1", "replyq-store 2", 1) })
		refuses(t, dir, disk.Options{}, disk.ErrNewer, dir, "newer version")
	})
	t.Run("somebody else's directory", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refuses(t, dir, disk.Options{}, nil, dir, "thesis.txt", "another directory")
	})
	t.Run("in use by this process", func(t *testing.T) {
		dir := t.TempDir()
		open(t, dir, disk.Options{})
		refuses(t, dir, disk.Options{}, disk.ErrInUse, dir, "stop it")
		if _, err := disk.Check(t.Context(), dir, nil); !errors.Is(err, disk.ErrInUse) {
			t.Errorf("Check of a store in use: %v, want ErrInUse", err)
		}
	})
	t.Run("in memory", func(t *testing.T) {
		dir, err := os.MkdirTemp("/dev/shm", "replyq") //nolint:usetesting // this place is what is tested
		if err != nil {
			t.Skip("no tmpfs here: ", err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // best effort
		if _, err := disk.Open(dir, disk.Options{}); !errors.Is(err, disk.ErrVolatile) || !strings.Contains(err.Error(), dir) {
			t.Errorf("Open in tmpfs: %v, want ErrVolatile", err)
		}
	})
}

// TestInUseByAnotherProcess starts itself again to open a store that is open here.
func TestInUseByAnotherProcess(t *testing.T) {
	if dir := os.Getenv("REPLYQ_TEST_OPEN"); dir != "" {
		refuses(t, dir, disk.Options{}, disk.ErrInUse, dir)
		return
	}
	dir := t.TempDir()
	open(t, dir, disk.Options{})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), self, "-test.run=^TestInUseByAnotherProcess$")
	other.Env = append(os.Environ(), "REPLYQ_TEST_OPEN="+dir)
	if out, err := other.CombinedOutput(); err != nil {
		t.Errorf("the other process: %v\n%s", err, out)
	}
}
