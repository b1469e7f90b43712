package handles

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The states of a key.
const (
	stateMint    = "mint"
	stateAccept  = "accept"
	stateDropped = "dropped"
)

// GenerateKeyLine returns a line for a key file, with a fresh random key and without a line
// break. A key file has one line per key,
//
//	id state not-before root
//
// with fields apart by blanks: an id from 0 to 255, used once; the state mint (new handles
// are minted under it; exactly one key), accept (its handles are still good) or dropped (its
// handles are revoked); the RFC 3339 time since when the key may be in use, a note for those
// who rotate keys, of which only the form is checked; 32 random bytes as 64 hexadecimal
// digits. What follows a # is a comment. The state is not checked here.
//
// To rotate, add the new key as accept on every node, then make it mint and the old one
// accept, and remove the old one once the last handle minted under it has expired. To revoke
// all handles of a key, set it to dropped.
func GenerateKeyLine(id uint8, state string, now time.Time) string {
	root := make([]byte, rootSize)
	_, _ = rand.Read(root) // never fails: it ends the process instead
	return fmt.Sprintf("%d %s %s %x", id, state, now.UTC().Format(time.RFC3339), root)
}

// parseKeyFile quotes nothing from the file but numbers of lines and ids: fields in the wrong
// order would put a key into the error.
func parseKeyFile(cluster string, file []byte) (*ringState, error) {
	state := &ringState{}
	var (
		lineOf   [256]int // by key id
		mintLine int
		n        int
	)
	for line := range bytes.Lines(file) {
		n++
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := bytes.Fields(line)
		if len(fields) == 0 {
			continue
		}
		id, keyState, key, err := parseKeyLine(cluster, fields)
		if err != nil {
			return nil, inLine(n, err)
		}
		if lineOf[id] != 0 {
			return nil, inLine(n, fmt.Errorf("key id %d is already in line %d: give each key an id of its own", id, lineOf[id]))
		}
		for other, used := range lineOf {
			if used != 0 && state.keys[other].root.equal(key) {
				return nil, inLine(n, fmt.Errorf("same root as in line %d: generate a new one", used))
			}
		}
		if keyState == stateMint {
			if mintLine != 0 {
				return nil, inLine(n, fmt.Errorf("line %d already has the key in state mint: set this or that one to accept", mintLine))
			}
			mintLine, state.mint = n, id
		}
		lineOf[id] = n
		state.keys[id] = ringKey{root: key, dropped: keyState == stateDropped}
	}
	if mintLine == 0 {
		return nil, fmt.Errorf("%w: no key is in state mint: set one to mint", ErrKeyFile)
	}
	return state, nil
}

func inLine(n int, err error) error {
	return fmt.Errorf("%w: line %d: %w", ErrKeyFile, n, err)
}

func parseKeyLine(cluster string, fields [][]byte) (id uint8, state string, key *rootKey, err error) {
	if len(fields) != 4 {
		return 0, "", nil, fmt.Errorf("%d fields: write id, state, not-before and root", len(fields))
	}
	n, err := strconv.ParseUint(string(fields[0]), 10, 8)
	if err != nil {
		return 0, "", nil, errors.New("the first field is no key id: write a number from 0 to 255")
	}
	state = string(fields[1])
	if state != stateMint && state != stateAccept && state != stateDropped {
		return 0, "", nil, errors.New("the second field is no state: write mint, accept or dropped")
	}
	if _, err := time.Parse(time.RFC3339, string(fields[2])); err != nil {
		return 0, "", nil, errors.New("the third field is no time: write one like 2026-01-31T12:00:00Z")
	}
	root, err := parseRoot(fields[3])
	if err != nil {
		return 0, "", nil, err
	}
	key, err = newRootKey(cluster, root)
	return uint8(n), state, key, err
}

func parseRoot(digits []byte) ([]byte, error) {
	if len(digits) != hex.EncodedLen(rootSize) {
		return nil, fmt.Errorf("the root has %d digits: write %d, for %d random bytes", len(digits), hex.EncodedLen(rootSize), rootSize)
	}
	root := make([]byte, rootSize)
	if _, err := hex.Decode(root, digits); err != nil {
		return nil, errors.New("the root has other characters than 0-9 and a-f: write hexadecimal digits")
	}
	if bytes.Equal(root, make([]byte, rootSize)) {
		return nil, errors.New("the root is all zero: generate a random one")
	}
	return root, nil
}
