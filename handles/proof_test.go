package handles_test

import (
	"testing"

	"github.com/replyq/replyq/handles"
)

// TestProof: a proof is good for what it was made of, with these keys, and for nothing else.
func TestProof(t *testing.T) {
	ring := newRing(t)
	data := []byte("7 seven\x00eve")
	proof := ring.Prove("relay", data)
	if !newRing(t).Proven("relay", data, proof) {
		t.Error("another ring of the same keys does not take the proof")
	}
	other, err := handles.NewEphemeral()
	if err != nil {
		t.Fatal(err)
	}
	for name, taken := range map[string]bool{
		"other data":    ring.Proven("relay", []byte("8 eight\x00eve"), proof),
		"other purpose": ring.Proven("lunch", data, proof),
		"other keys":    other.Proven("relay", data, proof),
		"other's proof": ring.Proven("relay", data, other.Prove("relay", data)),
		"cut":           ring.Proven("relay", data, proof[:len(proof)-1]),
		"key id alone":  ring.Proven("relay", data, proof[:2]),
		"unknown key":   ring.Proven("relay", data, "ff"+proof[2:]),
		"empty":         ring.Proven("relay", data, ""),
		"no hex":        ring.Proven("relay", data, "zz"+proof[2:]),
	} {
		if taken {
			t.Errorf("%s: the proof is taken", name)
		}
	}
}

// TestProofOverRotation: a proof is good while its key is, whatever mints; then no more.
func TestProofOverRotation(t *testing.T) {
	ring, err := handles.ParseKeys("test", []byte(keyLine("1", "mint", rootA)))
	if err != nil {
		t.Fatal(err)
	}
	proof := ring.Prove("relay", []byte("x"))
	for _, step := range []struct {
		first string
		want  bool
	}{{"accept", true}, {"dropped", false}} {
		if err := ring.Replace([]byte(keyLine("1", step.first, rootA) + keyLine("2", "mint", rootB))); err != nil {
			t.Fatal(err)
		}
		if got := ring.Proven("relay", []byte("x"), proof); got != step.want {
			t.Errorf("with its key at %s: Proven() = %v, want %v", step.first, got, step.want)
		}
	}
}
