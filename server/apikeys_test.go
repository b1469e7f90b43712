package server_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/replyq/replyq/server"
)

func TestParseAPIKeys(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	other := strings.Repeat("cd", 32)
	for _, test := range []struct {
		name, file string
		want       string // part of the error; empty if it is good
	}{
		{"good", "# keys\n\n" + hash + " acme 7 web # note\n" + other + "\tacme\t7\tworker 2030-01-01T00:00:00Z\n", ""},
		{"default is 1", hash + " default 1 p", ""},
		{"empty", "# nothing\n", "it has no key"},
		{"few fields", hash + " acme 7", "line 1: 3 fields"},
		{"many fields", "\n" + hash + " acme 7 web 2030-01-01T00:00:00Z more", "line 2: 6 fields"},
		{"the key itself", "qk1_" + strings.Repeat("A", 43) + " acme 7 web", "line 1: the first field has 47 characters"},
		{"not hexadecimal", strings.Repeat("xy", 32) + " acme 7 web", "hexadecimal digits"},
		{"tenant name", hash + " ACME 7 web", "the second field is no tenant name"},
		{"tenant number", hash + " acme x web", "the third field is no tenant number"},
		{"tenant number 0", hash + " acme 0 web", "the third field is no tenant number"},
		{"tenant number large", hash + " acme 4294967296 web", "the third field is no tenant number"},
		{"principal", hash + " acme 7 a/b", "the fourth field is no principal"},
		{"expiry", hash + " acme 7 web tomorrow", "the fifth field is no time"},
		{"number of two tenants", hash + " acme 7 web\n" + other + " umbrella 7 web", `line 2: tenant number 7 belongs to "acme"`},
		{"tenant of two numbers", hash + " acme 7 web\n" + other + " acme 8 web", `line 2: tenant "acme" has number 7`},
		{"default is not 2", hash + " default 2 p", `tenant "default" has number 1`},
		{"1 is not another's", hash + " acme 1 p", `tenant number 1 belongs to "default"`},
		{"the same key twice", hash + " acme 7 web\n" + hash + " acme 7 worker", "line 2: the key is in the file already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := server.ParseAPIKeys([]byte(test.file))
			if test.want == "" {
				if err != nil {
					t.Errorf("ParseAPIKeys() = %v, want no error", err)
				}
				return
			}
			if !errors.Is(err, server.ErrAPIKeys) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ParseAPIKeys() = %v, want %q", err, test.want)
			}
			if err != nil && (strings.Contains(err.Error(), hash) || strings.Contains(err.Error(), "AAAA")) {
				t.Errorf("ParseAPIKeys() = %v: it shows a key or a hash", err)
			}
		})
	}
}

// TestReplaceAPIKeys: a number is never given to another tenant, not even when the first is gone.
func TestReplaceAPIKeys(t *testing.T) {
	key, line := server.NewAPIKey("acme", 7, "web", time.Time{})
	keys, err := server.ParseAPIKeys([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	_, other := server.NewAPIKey("other", 8, "web", time.Time{})
	_, thief := server.NewAPIKey("umbrella", 7, "web", time.Time{})
	if err := keys.Replace([]byte(other)); err != nil {
		t.Fatal(err)
	}
	if err := keys.Replace([]byte(thief)); !errors.Is(err, server.ErrAPIKeys) {
		t.Errorf("Replace() with a number used before = %v, want %v", err, server.ErrAPIKeys)
	}
	if _, ok := keys.Identify(key, time.Now()); ok {
		t.Error("a key that was removed is still good")
	}
	if got := keys.Len(); got != 1 {
		t.Errorf("Len() = %d, want 1", got)
	}
}

// FuzzAPIKeys: a file of API keys is taken whole or refused, and an error never shows what stands in it.
func FuzzAPIKeys(f *testing.F) {
	hash := strings.Repeat("ab", 32)
	for _, file := range []string{
		hash + " acme 7 web\n", "# nothing\n", hash + " default 1 p 2030-01-01T00:00:00Z", "qk1_" + strings.Repeat("A", 43) + " acme 7 web",
		hash + " acme 7 web\n" + hash + " acme 7 web", hash + " acme 1 web", hash + "\tacme\t4294967296\tweb\r\n", "\x00 \xff 0 -",
	} {
		f.Add([]byte(file))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		keys, err := server.ParseAPIKeys(file)
		if err != nil {
			if !errors.Is(err, server.ErrAPIKeys) || keys != nil {
				t.Fatalf("ParseAPIKeys() = %v, %v, want nil, %v", keys, err, server.ErrAPIKeys)
			}
			for _, word := range strings.Fields(string(file)) {
				if len(word) >= 40 && strings.Contains(err.Error(), word) {
					t.Fatalf("the error shows %q, which may be a key", word)
				}
			}
			return
		}
		n := keys.Len()
		if n == 0 {
			t.Fatal("a file without a key was taken")
		}
		if err := keys.Replace(file); err != nil || keys.Len() != n {
			t.Fatalf("Replace() with the same file = %v, %d keys, want %d", err, keys.Len(), n)
		}
		if id, ok := keys.Identify("qk1_"+strings.Repeat("A", 43), time.Unix(0, 0)); ok {
			t.Fatalf("a key that was never made stands for %v", id)
		}
		if err := keys.Replace(append(file, "\none line too many"...)); !errors.Is(err, server.ErrAPIKeys) || keys.Len() != n {
			t.Fatalf("Replace() with a bad line = %v, %d keys, want %v and %d", err, keys.Len(), server.ErrAPIKeys, n)
		}
	})
}
