package integration_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/history"
)

// Files of a store that are not as they were written: the server refuses to start and names what is wrong, or it has all
// that there was. It never delivers anything else.
func TestP04DamagedStores(t *testing.T) {
	t.Parallel()
	const stored, size, damages = 5000, 4 << 10, 5
	ctx, stop := context.WithTimeout(t.Context(), time.Hour)
	defer stop()
	good := dataDir(t)
	r := newRigOf(t, localServer, []string{"--data-dir", good, "--allow-tmpfs"})
	h := history.New()
	enqueueMany(ctx, t, r.quick(), h, "stored", stored, size, enqueuedAtOnce)
	r.kill()
	refused := 0
	for n := range scaled(t, damages) {
		dir := filepath.Join(filepath.Dir(good), "damaged")
		tool(t, "cp", "-r", good, dir)
		what := damageFile(t, r, dir, n)
		r.flags = []string{"--data-dir", dir, "--allow-tmpfs", "--log-level", "info"}
		r.launch()
		r.troubled = true
		eventually(t, what+": it serves or ends", func() bool { return r.over() || servingAddress(r.log.String()) != "" })
		if r.over() {
			refused++
			checkRefusal(t, r, dir, what)
		} else {
			r.server.addr = r.addr
			checkAllThere(ctx, t, r, stored, what)
			r.kill()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d damages: refused to start", refused, scaled(t, damages))
}

// damageFile damages a file, and says how: in turn a bit is flipped, the end cut off, a page zeroed.
func damageFile(t *testing.T, r *rig, dir string, n int) string {
	t.Helper()
	name, text := drawFile(t, r, dir)
	at := r.random.IntN(len(text))
	var what string
	switch n % 3 {
	case 0:
		what = "a bit flipped"
		text[at] ^= 1 << r.random.IntN(8)
	case 1:
		what = cutOff
		text = text[:at]
	case 2:
		what = "a page zeroed"
		page := text[at&^4095:]
		clear(page[:min(len(page), 4096)])
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(name, dir+"/") + ": " + what
}

// drawFile draws a file of a store, larger ones with better chances, and reads it.
func drawFile(t *testing.T, r *rig, dir string) (name string, text []byte) {
	t.Helper()
	var names []string
	var ends []int64 // of the files, one after the other
	total := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > 0 {
			total += info.Size() + 64<<10 // so that small ones have a chance, too
			names, ends = append(names, path), append(ends, total)
		}
		return err
	})
	if err != nil || total == 0 {
		t.Fatalf("files of the store: %v", err)
	}
	at := r.random.Int64N(total)
	for i, end := range ends {
		if at < end {
			name = names[i]
			break
		}
	}
	if text, err = os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	return name, text
}

// checkRefusal: the server has not started, and names a file or the directory.
func checkRefusal(t *testing.T, r *rig, dir, what string) {
	t.Helper()
	if code := r.wait(t, patience); code != exitDamaged {
		t.Errorf("%s: exit code %d, want %d", what, code, exitDamaged)
	}
	log := r.log.String()
	t.Logf("%s: %s", what, lastLine(log))
	if !strings.Contains(log, dir) {
		t.Errorf("%s: the refusal names no file:\n%s", what, log)
	}
	if strings.Contains(log, "panic:") || strings.Contains(log, "goroutine ") {
		t.Errorf("%s: the server panics:\n%s", what, log)
	}
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}

// checkAllThere: all that was stored is delivered, as it was sent. When the newest log ends early only the last may be
// missing; and when its last batch is damaged, that one, which looks like a batch that a crash has cut short.
func checkAllThere(ctx context.Context, t *testing.T, r *rig, stored int, what string) {
	t.Helper()
	c := r.quick()
	defer func() { _ = c.Close() }() // it would come back, and take what the next server has
	consumer, err := c.Consume(ctx, client.ConsumeConfig{MaxInFlight: stored}, "stored")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	seen := make(map[history.ID]bool)
	for left := r.statistics(t, "stored"); len(seen) < int(left.Ready+left.InFlight); {
		d, err := consumer.Next(ctx)
		if err != nil {
			t.Fatalf("%s: %v, with %d messages of %v delivered", what, err, len(seen), left)
		}
		id, _, err := history.Parse(d.Payload)
		if err != nil {
			t.Fatalf("%s: a corrupt payload was delivered: %v", what, err)
		}
		seen[id] = true
	}
	t.Logf("%s: it serves, with %d of %d messages", what, len(seen), stored)
	if len(seen) == stored {
		return
	}
	lastBatch := strings.Contains(what, ".log: ") && stored-len(seen) <= enqueuedAtOnce
	if !strings.HasSuffix(what, ".log: "+cutOff) && !lastBatch {
		t.Errorf("%s: %d messages are missing, and nobody is told", what, stored-len(seen))
	}
	for id := range seen {
		if id.Counter >= len(seen) {
			t.Fatalf("%s: what is missing of %d messages is not the last %d", what, stored, stored-len(seen))
		}
	}
}

// enqueuedAtOnce is how many messages are in a batch.
const enqueuedAtOnce = 16

// cutOff is the damage that can also be a crash: a log that was not fsynced to its end has one like it.
const cutOff = "the end cut off"
