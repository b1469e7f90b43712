package history

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// ID says which send of which producer something is.
type ID struct {
	Producer string
	Counter  int
}

// String returns producer/counter.
func (id ID) String() string { return id.Producer + "/" + strconv.Itoa(id.Counter) }

// Derived is the id of what is made out of the one with this id, such as the message that it is forwarded as. Derived
// messages are not sent in the order of their counters.
func (id ID) Derived(what string) ID { return ID{id.Producer + "+" + what, id.Counter} }

// derived tells whether it is of Derived.
func (id ID) derived() bool { return strings.Contains(id.Producer, "+") }

// Payload makes the payload of a send: producer|counter|do|digest| and then noise up to size. do says what a worker shall
// do with it. The digest is over all of the rest.
func Payload(id ID, do string, size int) []byte {
	head := fmt.Sprintf("%s|%d|%s|", id.Producer, id.Counter, do)
	noise := make([]byte, max(size-len(head)-digestLength-1, 0))
	fill(noise, id)
	return fmt.Appendf(nil, "%s%s|%s", head, digest([]byte(head), noise), noise)
}

const digestLength = 16

func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write(p) // never fails
	}
	return hex.EncodeToString(h.Sum(nil))[:digestLength]
}

// fill makes noise that is another for each id.
func fill(noise []byte, id ID) {
	seed := sha256.Sum256([]byte(id.String()))
	_, _ = rand.NewChaCha8(seed).Read(noise) // never fails
}

// Parse reads a payload. The error says what of it is wrong, and shows none of it.
func Parse(payload []byte) (id ID, do string, err error) {
	id, do, rest, err := split(payload)
	if err != nil {
		return ID{}, "", err
	}
	head := payload[:len(payload)-len(rest)]
	if len(rest) <= digestLength || digest(head, rest[digestLength+1:]) != string(rest[:digestLength]) || rest[digestLength] != '|' {
		return ID{}, "", fmt.Errorf("%d bytes that do not have their digest", len(payload))
	}
	return id, do, nil
}

// ParseStart reads what there is at the start of a payload, of which the rest may be missing.
func ParseStart(payload []byte) (id ID, do string, err error) {
	id, do, _, err = split(payload)
	return id, do, err
}

// split takes the head off a payload. rest is its digest, and what comes after that.
func split(payload []byte) (id ID, do string, rest []byte, err error) {
	parts := bytes.SplitN(payload, []byte("|"), 4)
	if len(parts) != 4 {
		return ID{}, "", nil, fmt.Errorf("%d bytes without a head", len(payload))
	}
	counter, err := strconv.Atoi(string(parts[1]))
	if err != nil {
		return ID{}, "", nil, fmt.Errorf("%d bytes without a counter", len(payload))
	}
	return ID{string(parts[0]), counter}, string(parts[2]), parts[3], nil
}

// Answer is what a worker answers to a payload.
func Answer(payload []byte) []byte { return []byte("answer to " + digest(payload)) }
