package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/replyq/replyq/journal"
)

// Keys begin with what they are for.
const (
	kindBatch = 'b' // b shard position: a batch
	kindTrim  = 't' // t shard: position of the first batch that was not trimmed
)

const (
	batchKeySize = 1 + 2 + 8
	trimKeySize  = 1 + 2

	// headerSize is what stands before a batch's content: a format, and a checksum over shard, position and content.
	headerSize = 1 + 4
)

// Formats of a batch.
const (
	batchFormat = 1 // when it was written, all earlier batches of its shard were kept
	batchLazy   = 2 // they may not have been: the store did not wait for the disk
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant that Go cannot write as one

// batchKey is the key of a batch. Keys sort by shard, then position.
func batchKey(shard uint16, p journal.Position) (key [batchKeySize]byte) {
	key[0] = kindBatch
	binary.BigEndian.PutUint16(key[1:], shard)
	binary.BigEndian.PutUint64(key[3:], uint64(p))
	return key
}

func parseBatchKey(key []byte) (shard uint16, p journal.Position, ok bool) {
	if len(key) != batchKeySize || key[0] != kindBatch {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(key[1:]), journal.Position(binary.BigEndian.Uint64(key[3:])), true
}

func trimKey(shard uint16) (key [trimKeySize]byte) {
	key[0] = kindTrim
	binary.BigEndian.PutUint16(key[1:], shard)
	return key
}

// encodeBatch writes a batch with its header into value, which has room for exactly both.
func encodeBatch(value []byte, format byte, key, batch []byte) {
	value[0] = format
	binary.BigEndian.PutUint32(value[1:], checksum(format, key, batch))
	copy(value[headerSize:], batch)
}

var (
	errShort    = errors.New("it is too short")
	errChecksum = errors.New("its checksum is wrong")
)

// decodeBatch returns the content of a batch, a part of value, if it is what was written under this key.
func decodeBatch(key, value []byte) ([]byte, error) {
	if len(value) < headerSize {
		return nil, errShort
	}
	if value[0] != batchFormat && value[0] != batchLazy {
		return nil, fmt.Errorf("its format %d is unknown", value[0])
	}
	batch := value[headerSize:]
	if binary.BigEndian.Uint32(value[1:]) != checksum(value[0], key, batch) {
		return nil, errChecksum
	}
	return batch, nil
}

func checksum(format byte, key, batch []byte) uint32 {
	sum := crc32.Update(uint32(format), castagnoli, key)
	return crc32.Update(sum, castagnoli, batch)
}
