package handles_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/replyq/replyq/handles"
)

func TestKeyFileAccepted(t *testing.T) {
	mint := keyLine("3", "mint", rootA)
	tests := map[string]string{
		"one key":             mint,
		"no line break":       strings.TrimSpace(mint),
		"comments":            "# keys\n\n  # more\n" + strings.TrimSpace(mint) + " # the one\n#",
		"windows line breaks": strings.ReplaceAll("# keys\n"+mint+keyLine("4", "accept", rootB), "\n", "\r\n"),
		"tabs":                strings.ReplaceAll(mint, " ", "\t"),
		"upper-case digits":   "3 mint 2026-01-01T00:00:00Z " + strings.ToUpper(rootA),
		"time with offset":    "3 mint 2026-01-01T00:00:00.5+02:00 " + rootA,
		"two keys":            keyLine("255", "accept", rootB) + mint,
		"dropped":             keyLine("0", "dropped", rootB) + mint,
		"generated":           handles.GenerateKeyLine(9, "accept", now) + "\n" + mint,
	}
	want := newRing(t).Mint(claims(handles.Send))
	for name, file := range tests {
		t.Run(name, func(t *testing.T) {
			ring, err := handles.ParseKeys("test", []byte(file))
			if err != nil {
				t.Fatal(err)
			}
			if got := ring.Mint(claims(handles.Send)); got != want {
				t.Errorf("Mint = %v, want %v", got, want)
			}
		})
	}
}

func TestKeyFileRefused(t *testing.T) {
	mint := keyLine("1", "mint", rootA)
	tests := []struct{ name, file, want string }{
		{"empty", "", "no key is in state mint: set one to mint"},
		{"comments only", "# nothing\n", "no key is in state mint"},
		{"no mint", keyLine("1", "accept", rootA), "no key is in state mint"},
		{"two mints", mint + "\n" + keyLine("2", "mint", rootB), "line 3: line 1 already has the key in state mint"},
		{"reused id", mint + keyLine("1", "accept", rootB), "line 2: key id 1 is already in line 1"},
		{"reused id, written otherwise", mint + keyLine("001", "accept", rootB), "line 2: key id 1 is already in line 1"},
		{"reused root", mint + keyLine("2", "accept", rootA), "line 2: same root as in line 1: generate a new one"},
		{"too few fields", "1 mint " + rootA, "line 1: 3 fields: write id, state, not-before and root"},
		{"too many fields", strings.TrimSpace(mint) + " x", "line 1: 5 fields"},
		{"broken root", "1 mint 2026-01-01T00:00:00Z " + rootA[:32] + " " + rootA[32:], "line 1: 5 fields"},
		{"id too large", keyLine("256", "mint", rootA), "line 1: the first field is no key id: write a number from 0 to 255"},
		{"id negative", keyLine("-1", "mint", rootA), "no key id"},
		{"id is the root", keyLine(rootA, "mint", rootA), "no key id"},
		{"state unknown", keyLine("1", "old", rootA), "line 1: the second field is no state: write mint, accept or dropped"},
		{"state in capitals", keyLine("1", "Mint", rootA), "no state"},
		{"state is the root", "1 " + rootA + " 2026-01-01T00:00:00Z mint", "no state"},
		{"no time", "1 mint yesterday " + rootA, "line 1: the third field is no time: write one like 2026-01-31T12:00:00Z"},
		{"time is the root", "1 mint " + rootA + " 2026-01-01T00:00:00Z", "no time"},
		{"root too short", keyLine("1", "mint", rootA[:62]), "line 1: the root has 62 digits: write 64, for 32 random bytes"},
		{"root too long", keyLine("1", "mint", rootA+"00"), "the root has 66 digits"},
		{"root not hexadecimal", keyLine("1", "mint", rootA[:63]+"g"), "line 1: the root has other characters"},
		{"root all zero", keyLine("1", "mint", strings.Repeat("0", 64)), "line 1: the root is all zero: generate a random one"},
		{"second line bad", mint + "2 accept\n", "line 2: 2 fields"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ring, err := handles.ParseKeys("test", []byte(tt.file))
			if !errors.Is(err, handles.ErrKeyFile) || ring != nil {
				t.Fatalf("ParseKeys = %v, %v, want nil, %v", ring, err, handles.ErrKeyFile)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %q, want it to contain %q", err, tt.want)
			}
			for i := range len(rootA) - 8 {
				if strings.Contains(err.Error(), rootA[i:i+8]) {
					t.Fatalf("error shows part of the key: %q", err)
				}
			}
		})
	}
}

func TestGenerateKeyLine(t *testing.T) {
	east := time.FixedZone("east", 3*3600)
	line := handles.GenerateKeyLine(9, "mint", now.In(east))
	if want := "9 mint 2026-01-31T12:00:00Z "; !strings.HasPrefix(line, want) || len(line) != len(want)+64 {
		t.Errorf("GenerateKeyLine has %d characters and begins with %q, want %d and %q", len(line), line[:len(want)], len(want)+64, want)
	}
	if _, err := handles.ParseKeys("test", []byte(line)); err != nil {
		t.Errorf("ParseKeys of the line = %v", err)
	}
	if line == handles.GenerateKeyLine(9, "mint", now) {
		t.Error("two lines have the same key")
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(keyLine("1", "mint", rootA) + keyLine("2", "accept", rootB)))
	f.Add([]byte("# nothing\n1 mint"))
	f.Add([]byte(keyLine("1", "dropped", rootA)))
	f.Fuzz(func(t *testing.T, file []byte) {
		ring, err := handles.ParseKeys("fuzz", file)
		if err != nil {
			if !errors.Is(err, handles.ErrKeyFile) || ring != nil {
				t.Fatalf("ParseKeys = %v, %v, want nil, %v", ring, err, handles.ErrKeyFile)
			}
			return
		}
		h := ring.Mint(claims(handles.Send))
		if err := ring.Verify(h, h.Tenant(), now); err != nil {
			t.Fatalf("Verify of a handle just minted = %v", err)
		}
		if err := ring.Replace(file); err != nil {
			t.Fatalf("Replace with the same file = %v", err)
		}
		if got := ring.Mint(claims(handles.Send)); got != h {
			t.Fatal("the same file mints another handle")
		}
		if err := ring.Replace(fmt.Appendf(nil, "%s\n%s", file, "one line too many")); !errors.Is(err, handles.ErrKeyFile) {
			t.Fatalf("Replace with a bad line = %v, want %v", err, handles.ErrKeyFile)
		}
	})
}
