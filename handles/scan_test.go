package handles_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/handles"
)

// scan prints handles redacted, so that failures may be shown.
func scan(payload []byte) (found []string) {
	handles.Scan(payload, func(h handles.Handle) { found = append(found, h.String()) })
	return found
}

func TestScan(t *testing.T) {
	ring := newRing(t)
	s, r, l := ring.Mint(claims(handles.Send)), ring.Mint(claims(handles.Receive)), ring.Mint(claims(handles.Lease))
	bin, _ := s.MarshalBinary()
	forged := s.Text()[:60] + "AAAAAAAAA" // well formed is all that Scan can tell
	if _, err := handles.Parse(forged); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		payload string
		want    []handles.Handle
	}{
		{"empty", "", nil},
		{"nothing", "no handle here", nil},
		{"alone", s.Text(), []handles.Handle{s}},
		{"in json", `{"reply_to":"` + s.Text() + `","future":"` + r.Text() + `"}`, []handles.Handle{s, r}},
		{"in a url", "https://example.org/?h=" + l.Text() + "&x=1", []handles.Handle{l}},
		{"side by side", s.Text() + r.Text() + s.Text(), []handles.Handle{s, r, s}},
		{"between binary", "\x00\xff" + s.Text() + "\x00", []handles.Handle{s}},
		{"inside a longer word", "AA" + s.Text() + "AA", []handles.Handle{s}},
		{"after a cut one", s.Text()[:9] + r.Text(), []handles.Handle{r}},
		{"after prefixes", "qh1qh1s_qh1s_" + s.Text(), []handles.Handle{s}},
		{"cut at the end", s.Text()[:68], nil},
		{"prefix at the end", "qh1", nil},
		{"binary form", string(bin), nil},
		{"padded", s.Text()[:67] + "==", nil},
		{"line break inside", s.Text()[:40] + "\n" + s.Text()[40:], nil},
		{"wrong prefix for the kind", "qh1r_" + s.Text()[5:], nil},
		{"upper case", strings.ToUpper(s.Text()), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want []string
			for _, h := range tt.want {
				want = append(want, h.String())
			}
			if diff := cmp.Diff(want, scan([]byte(tt.payload))); diff != "" {
				t.Errorf("Scan (-want +got):\n%s", diff)
			}
		})
	}
	if got := scan([]byte(forged)); len(got) != 1 {
		t.Errorf("Scan of a forged handle found %v, want it: verifying is for the caller", got)
	}
}

// TestScanFindsHidden: a look-alike whose body reaches into a genuine handle must not swallow it.
func TestScanFindsHidden(t *testing.T) {
	h := newRing(t).Mint(claims(handles.Send))
	for n := len("qh1s_EQAAA"); n < handles.TextSize; n++ {
		payload := []byte(h.Text()[:n] + h.Text())
		found := false
		handles.Scan(payload, func(got handles.Handle) { found = found || got == h })
		if !found {
			t.Errorf("Scan misses a handle that follows %d characters of another", n)
		}
	}
}

func FuzzScan(f *testing.F) {
	h := newRing(f).Mint(claims(handles.Send)).Text()
	f.Add([]byte("x"+h+h), uint8(1))
	f.Add([]byte(h[:30]+h), uint8(2))
	f.Add([]byte("qh1qh1s_EQAAA"), uint8(9))
	f.Fuzz(func(t *testing.T, payload []byte, repeat uint8) {
		payload = bytes.Repeat(payload, int(repeat%16))
		var want []string
		for i := range len(payload) - handles.TextSize + 1 {
			if h, err := handles.Parse(string(payload[i : i+handles.TextSize])); err == nil {
				want = append(want, h.String())
			}
		}
		if diff := cmp.Diff(want, scan(payload)); diff != "" {
			t.Fatalf("Scan, against Parse at every position (-want +got):\n%s", diff)
		}
	})
}
