package main

import (
	"slices"
	"strings"
	"testing"
)

func TestCheckAnswerFindsWhatIsWrong(t *testing.T) {
	request := newRequest(3, 64)
	good, err := appendAnswer(nil, request)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkAnswer(request, good); err != nil {
		t.Errorf("checkAnswer(a good one) = %v", err)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"short":            func(b []byte) []byte { return b[:63] },
		"empty":            func([]byte) []byte { return nil },
		"the request":      func([]byte) []byte { return request },
		"of another slot":  func(b []byte) []byte { b[0]++; return b },
		"of another round": func(b []byte) []byte { b[sequenceAt]++; return b },
		"damaged":          func(b []byte) []byte { b[63] ^= 1; return b },
	} {
		if checkAnswer(request, spoil(slices.Clone(good))) == nil {
			t.Errorf("checkAnswer finds nothing wrong with an answer that is %s", name)
		}
	}
	if _, err := appendAnswer(nil, good); err == nil {
		t.Error("an answer is taken for a request")
	}
}

func TestPartsAreCheckedInOrder(t *testing.T) {
	request := newRequest(5, 32)
	sent, due := newParts(100), newParts(100)
	if err := sent.to(request); err != nil {
		t.Fatal(err)
	}
	if err := due.to(request); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := due.check(i, sent.at(i)); err != nil {
			t.Errorf("check(%d) = %v", i, err)
		}
	}
	err := due.check(1, sent.at(2))
	if err == nil || !strings.Contains(err.Error(), "number 0.2 where 0.1 is due") {
		t.Errorf("check(1) of part 2 = %v, want a complaint that names both", err)
	}
}
