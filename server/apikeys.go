package server

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/replyq/replyq/broker"
)

// The tenant of servers without API keys; with them it may be used, under this number.
const (
	defaultTenant     = 1
	defaultTenantName = "default"
)

// keyPrefix begins every API key, so that secret scanners find leaked ones.
const keyPrefix = "qk1_"

// keyBytes is how many random bytes a key has.
const keyBytes = 32

const (
	maxTenantName = 64
	maxPrincipal  = 128
)

var (
	tenantChars    = charsetOf(lower + digits + "-")
	principalChars = charsetOf(lower + upper + digits + "._@-")
)

// ErrAPIKeys says that a file of API keys is unusable. The error that wraps it names the line and what to do.
var ErrAPIKeys = errors.New("file of API keys is unusable")

// APIKeys knows who holds which API key. It is safe for concurrent use, also while Replace changes the keys.
//
// The keys stand in a file, one a line, with fields apart by blanks:
//
//	sha256-of-key tenant-name tenant-number principal [expiry]
//
// that is: the SHA-256 of the key's text as 64 hexadecimal digits; the tenant's name (a-z, 0-9, "-") and its number
// from 1, which is part of every handle, so that a number belongs to one name for ever (the tenant "default" has 1);
// who the key stands for (letters, digits, ".", "_", "@", "-"); and optionally until when it is good, in RFC 3339.
// Several keys may stand for the same principal, so that they can be rotated. What follows a # is a comment.
type APIKeys struct {
	mu    sync.RWMutex
	keys  map[lookup]apiKey
	names map[uint32]string // of all tenants ever seen, by number
}

// lookup is the part of a key's hash that finds it. Whoever could make use of the time that a map takes would have to
// find keys with given hashes; the rest of the hash is compared in constant time.
type lookup [8]byte

type apiKey struct {
	hash    [sha256.Size]byte
	id      broker.Identity
	expires time.Time // zero: never
}

// ParseAPIKeys reads a file of API keys. Errors wrap [ErrAPIKeys] and quote no hash.
func ParseAPIKeys(file []byte) (*APIKeys, error) {
	k := &APIKeys{}
	if err := k.Replace(file); err != nil {
		return nil, err
	}
	return k, nil
}

// Replace changes to the keys of another file, all at once. Keys that are not in it are refused from now on; sessions
// that were opened with them live on. A number that has ever named another tenant is refused. Errors leave the keys as
// they were.
func (k *APIKeys) Replace(file []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	names := maps.Clone(k.names)
	if names == nil {
		names = map[uint32]string{defaultTenant: defaultTenantName}
	}
	keys := make(map[lookup]apiKey)
	n := 0
	for line := range bytes.Lines(file) {
		n++
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := strings.Fields(string(line))
		if len(fields) == 0 {
			continue
		}
		key, err := parseAPIKey(fields)
		if err == nil {
			err = checkTenant(names, key.id)
		}
		if err == nil {
			err = addKey(keys, key)
		}
		if err != nil {
			return fmt.Errorf("%w: line %d: %w", ErrAPIKeys, n, err)
		}
		names[key.id.Tenant] = key.id.TenantName
	}
	if len(keys) == 0 {
		return fmt.Errorf("%w: it has no key: add one with queue-server new-api-key", ErrAPIKeys)
	}
	k.keys, k.names = keys, names
	return nil
}

func addKey(keys map[lookup]apiKey, key apiKey) error {
	at := lookup(key.hash[:])
	if _, ok := keys[at]; ok {
		return errors.New("the key is in the file already: remove one of the two lines")
	}
	keys[at] = key
	return nil
}

func parseAPIKey(fields []string) (key apiKey, err error) {
	if len(fields) != 4 && len(fields) != 5 {
		return key, fmt.Errorf("%d fields: write sha256-of-key, tenant-name, tenant-number, principal and, if wanted, expiry",
			len(fields))
	}
	if len(fields[0]) != hex.EncodedLen(sha256.Size) {
		return key, fmt.Errorf("the first field has %d characters: write the 64 hexadecimal digits of the key's SHA-256, never the key",
			len(fields[0]))
	}
	if _, err := hex.Decode(key.hash[:], []byte(fields[0])); err != nil {
		return key, errors.New("the first field has other characters than 0-9 and a-f: write hexadecimal digits")
	}
	if name := fields[1]; len(name) > maxTenantName || !tenantChars.all(name) {
		return key, errors.New(`the second field is no tenant name: use at most 64 characters of a-z, 0-9 and "-"`)
	}
	number, err := strconv.ParseUint(fields[2], 10, 32)
	if err != nil || number == 0 {
		return key, errors.New("the third field is no tenant number: use one from 1 to 4294967295")
	}
	if p := fields[3]; len(p) > maxPrincipal || !principalChars.all(p) {
		return key, errors.New(`the fourth field is no principal: use at most 128 characters of A-Z, a-z, 0-9, ".", "_", "@" and "-"`)
	}
	if len(fields) == 5 {
		if key.expires, err = time.Parse(time.RFC3339, fields[4]); err != nil {
			return key, errors.New("the fifth field is no time: write one like 2027-01-31T00:00:00Z")
		}
	}
	key.id = broker.Identity{Tenant: uint32(number), TenantName: fields[1], Principal: fields[3]}
	return key, nil
}

// checkTenant keeps numbers and names of tenants together.
func checkTenant(names map[uint32]string, id broker.Identity) error {
	if name, ok := names[id.Tenant]; ok && name != id.TenantName {
		return fmt.Errorf("tenant number %d belongs to %q: give %q a number of its own, one that was never used",
			id.Tenant, name, id.TenantName)
	}
	for number, name := range names {
		if name == id.TenantName && number != id.Tenant {
			return fmt.Errorf("tenant %q has number %d already: use that", name, number)
		}
	}
	return nil
}

// Identify returns who the key stands for; ok is false if it is not, or no longer, in the file.
func (k *APIKeys) Identify(key string, now time.Time) (id broker.Identity, ok bool) {
	if !strings.HasPrefix(key, keyPrefix) {
		return broker.Identity{}, false
	}
	hash := sha256.Sum256([]byte(key))
	k.mu.RLock()
	found, ok := k.keys[lookup(hash[:])]
	k.mu.RUnlock()
	if !ok || subtle.ConstantTimeCompare(found.hash[:], hash[:]) != 1 {
		return broker.Identity{}, false
	}
	if !found.expires.IsZero() && !now.Before(found.expires) {
		return broker.Identity{}, false
	}
	return found.id, true
}

// Len returns how many keys there are.
func (k *APIKeys) Len() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.keys)
}

// NewAPIKey makes a random key and its line for a file of API keys, without a line break. Neither name is checked here.
// A zero expiry means none.
func NewAPIKey(tenant string, number uint32, principal string, expires time.Time) (key, line string) {
	raw := make([]byte, keyBytes)
	_, _ = rand.Read(raw) // never fails: it ends the process instead
	key = keyPrefix + base64.RawURLEncoding.EncodeToString(raw)
	hash := sha256.Sum256([]byte(key))
	line = fmt.Sprintf("%x %s %d %s", hash, tenant, number, principal)
	if !expires.IsZero() {
		line += " " + expires.UTC().Format(time.RFC3339)
	}
	return key, line
}
