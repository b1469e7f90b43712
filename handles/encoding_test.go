package handles_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/replyq/replyq/handles"
)

func TestEncodingRoundTrips(t *testing.T) {
	ring := newRing(t)
	give := map[string]handles.Handle{"none": {}}
	for _, kind := range kinds() {
		give[kind.String()] = ring.Mint(claims(kind))
	}
	trips := map[string]func(t *testing.T, h handles.Handle) handles.Handle{
		"text": func(t *testing.T, h handles.Handle) (got handles.Handle) {
			b, err := h.MarshalText()
			check(t, err)
			check(t, got.UnmarshalText(b))
			return got
		},
		"append text": func(t *testing.T, h handles.Handle) (got handles.Handle) {
			b, err := h.AppendText([]byte("x"))
			check(t, err)
			check(t, got.UnmarshalText(b[1:]))
			return got
		},
		"binary": func(t *testing.T, h handles.Handle) (got handles.Handle) {
			b, err := h.MarshalBinary()
			check(t, err)
			check(t, got.UnmarshalBinary(b))
			return got
		},
		"append binary": func(t *testing.T, h handles.Handle) (got handles.Handle) {
			b, err := h.AppendBinary([]byte("x"))
			check(t, err)
			check(t, got.UnmarshalBinary(b[1:]))
			return got
		},
		"json": func(t *testing.T, h handles.Handle) (got handles.Handle) {
			b, err := json.Marshal(h)
			check(t, err)
			check(t, json.Unmarshal(b, &got))
			return got
		},
		"xml": func(t *testing.T, h handles.Handle) (got handles.Handle) {
			b, err := xml.Marshal(h)
			check(t, err)
			check(t, xml.Unmarshal(b, &got))
			return got
		},
		"gob": func(t *testing.T, h handles.Handle) handles.Handle {
			type doc struct {
				H    handles.Handle
				List []handles.Handle
			}
			var (
				buf bytes.Buffer
				got doc
			)
			check(t, gob.NewEncoder(&buf).Encode(doc{h, []handles.Handle{h}}))
			check(t, gob.NewDecoder(&buf).Decode(&got))
			if len(got.List) != 1 || got.List[0] != got.H {
				t.Errorf("gob: list = %v, want [%v]", got.List, got.H)
			}
			return got.H
		},
		"sql": func(t *testing.T, h handles.Handle) (got handles.Handle) {
			v, err := h.Value()
			check(t, err)
			check(t, got.Scan(v))
			return got
		},
		"sql text column as bytes": func(t *testing.T, h handles.Handle) (got handles.Handle) {
			v, err := h.Value()
			check(t, err)
			if s, ok := v.(string); ok {
				v = []byte(s)
			}
			check(t, got.Scan(v))
			return got
		},
	}
	for name, trip := range trips {
		for kind, h := range give {
			t.Run(name+"/"+kind, func(t *testing.T) {
				if got := trip(t, h); got != h {
					t.Errorf("got %v, want %v", got, h)
				}
			})
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestJSONNesting(t *testing.T) {
	type doc struct {
		ReplyTo handles.Handle            `json:"reply_to"`
		Audit   *handles.Handle           `json:"audit"`
		Futures []handles.Handle          `json:"futures"`
		Named   map[string]handles.Handle `json:"named"`
		Seen    map[handles.Handle]bool   `json:"seen"`
		None    handles.Handle            `json:"none"`
		Left    handles.Handle            `json:"left,omitzero"`
	}
	ring := newRing(t)
	h := ring.Mint(claims(handles.Send))
	f := ring.Mint(claims(handles.Receive))
	want := doc{
		ReplyTo: h,
		Audit:   &h,
		Futures: []handles.Handle{f, h},
		Named:   map[string]handles.Handle{"f": f},
		Seen:    map[handles.Handle]bool{h: true},
	}
	b, err := json.Marshal(want)
	check(t, err)
	if strings.Contains(string(b), "left") || !strings.Contains(string(b), `"none":null`) {
		t.Errorf("json.Marshal = %s, want none as null and left left out", b)
	}
	got := doc{None: h}
	check(t, json.Unmarshal(b, &got))
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(handles.Handle{})); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
}

func TestUnmarshalJSONAcceptsEscapes(t *testing.T) {
	h := newRing(t).Mint(claims(handles.Send))
	var got handles.Handle
	check(t, json.Unmarshal([]byte(`"`+strings.Replace(h.Text(), "_", `\u005f`, 1)+`"`), &got))
	if got != h {
		t.Errorf("got %v, want %v", got, h)
	}
}

func TestDecodingRefuses(t *testing.T) {
	h := newRing(t).Mint(claims(handles.Send))
	raw, _ := h.MarshalBinary()
	padded := h.Text() + "="
	tests := map[string]func(h *handles.Handle) error{
		"text":                  func(h *handles.Handle) error { return h.UnmarshalText([]byte(padded)) },
		"binary, short":         func(h *handles.Handle) error { return h.UnmarshalBinary(raw[:47]) },
		"binary, all zero":      func(h *handles.Handle) error { return h.UnmarshalBinary(make([]byte, handles.Size)) },
		"json, malformed token": func(h *handles.Handle) error { return h.UnmarshalJSON([]byte(`"` + padded + `"`)) },
		"json, empty string":    func(h *handles.Handle) error { return h.UnmarshalJSON([]byte(`""`)) },
		"json, number":          func(h *handles.Handle) error { return h.UnmarshalJSON([]byte(`7`)) },
		"json, object":          func(h *handles.Handle) error { return h.UnmarshalJSON([]byte(`{}`)) },
		"json, cut":             func(h *handles.Handle) error { return h.UnmarshalJSON([]byte(`"qh1s_`)) },
		"json, nothing":         func(h *handles.Handle) error { return h.UnmarshalJSON(nil) },
		"sql, empty string":     func(h *handles.Handle) error { return h.Scan("") },
		"sql, malformed token":  func(h *handles.Handle) error { return h.Scan(padded) },
		"sql, binary column":    func(h *handles.Handle) error { return h.Scan(raw) },
		"sql, number":           func(h *handles.Handle) error { return h.Scan(int64(7)) },
	}
	for name, decode := range tests {
		t.Run(name, func(t *testing.T) {
			got := h
			err := decode(&got)
			if !errors.Is(err, handles.ErrInvalid) || err.Error() != handles.ErrInvalid.Error() {
				t.Errorf("error = %v, want %v", err, handles.ErrInvalid)
			}
			if got != h {
				t.Errorf("the refused input changed the handle to %v", got)
			}
		})
	}
}

// FuzzParseBytes: the binary form is as strict as the text form, and no more bytes than were minted are genuine.
func FuzzParseBytes(f *testing.F) {
	ring := newRing(f)
	for _, kind := range kinds() {
		h := ring.Mint(claims(kind))
		b, _ := h.MarshalBinary()
		f.Add(b)
		f.Add(b[:47])
		f.Add(append(b, 0))
	}
	f.Add(make([]byte, handles.Size))
	f.Add(bytes.Repeat([]byte{0xff}, handles.Size))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := handles.ParseBytes(b)
		if err != nil {
			if !errors.Is(err, handles.ErrInvalid) || !h.IsZero() {
				t.Fatalf("ParseBytes(%x) = %v, %v, want the zero Handle, %v", b, h, err, handles.ErrInvalid)
			}
			return
		}
		if back, _ := h.MarshalBinary(); !bytes.Equal(back, b) {
			t.Fatalf("ParseBytes(%x) marshals as %x", b, back)
		}
		if got, err := handles.Parse(h.Text()); err != nil || got != h {
			t.Fatalf("Parse of its text = %v, %v, want %v", got, err, h)
		}
		if strings.Contains(h.String(), h.Text()[5:]) {
			t.Fatalf("%s shows the token", h)
		}
		if ring.Verify(h, h.Tenant(), now) == nil && h != ring.Mint(claims(h.Kind())) {
			t.Fatalf("Verify accepted a forged %x", b)
		}
	})
}
