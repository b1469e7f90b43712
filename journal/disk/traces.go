package disk

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
)

// The layout of a log of Pebble's: blocks of 32 KiB, in them chunks with a checksum, a length, a type, the low bits of the
// log's number and, in newer ones, how much of the log was synced before. Records go over several chunks if need be.
const (
	logBlock       = 32 << 10
	logHeader      = 4 + 2 + 1 + 4
	logSyncHeader  = logHeader + 8
	logFull        = 5 // types of chunks; the first of those with a short header
	logSyncFull    = 9 // and with a long one
	logTypes       = 4 // full, first, middle, last
	pebbleBatchTop = 8 + 4
	pebbleSet      = 1 // the kind of a key with a value
)

// traces raises marks by what is found in the logs, behind damage too: when a batch was written all earlier ones of its
// shard were kept, as a shard has only one append under way.
func (d directory) traces(m marks) error {
	names, err := d.fs.List(d.file(logName))
	if errors.Is(err, os.ErrNotExist) {
		return nil // Pebble says it better
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		number, isLog := strings.CutSuffix(name, ".log")
		n, err := strconv.ParseUint(number, 10, 64)
		if !isLog || err != nil {
			continue
		}
		log, err := d.read(d.fs.PathJoin(logName, name))
		if err != nil {
			return err
		}
		traceLog(log, uint32(n), m)
	}
	return nil
}

func traceLog(log []byte, number uint32, m marks) {
	for len(log) > 0 {
		block := log[:min(len(log), logBlock)]
		log = log[len(block):]
		for len(block) > logHeader {
			if payload, begins, size := logChunk(block, number); size > 0 {
				if begins {
					traceBatch(payload, m)
				}
				block = block[size:]
			} else {
				block = block[1:]
			}
		}
	}
}

// logChunk takes a chunk from the beginning of b, if a good one is there, and says whether a record begins with it.
func logChunk(b []byte, number uint32) (payload []byte, begins bool, size int) {
	if binary.LittleEndian.Uint32(b[7:]) != number {
		return nil, false, 0
	}
	kind, header := int(b[6])-logFull, logHeader
	if kind >= logSyncFull-logFull {
		kind, header = kind-(logSyncFull-logFull), logSyncHeader
	}
	size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if kind < 0 || kind >= logTypes || size > len(b) {
		return nil, false, 0
	}
	sum := crc32.Checksum(b[6:size], castagnoli)
	if binary.LittleEndian.Uint32(b) != (sum>>15|sum<<17)+0xa282ead8 {
		return nil, false, 0
	}
	return b[header:size], kind <= 1, size
}

// traceBatch looks at the beginning of what Pebble commits at once: one of our batches, or something else.
func traceBatch(b []byte, m marks) {
	if len(b) < pebbleBatchTop+2+batchKeySize || b[pebbleBatchTop] != pebbleSet || b[pebbleBatchTop+1] != batchKeySize {
		return
	}
	b = b[pebbleBatchTop+2:]
	shard, p, ok := parseBatchKey(b[:batchKeySize])
	if !ok || int(shard) >= len(m) {
		return
	}
	_, n := binary.Uvarint(b[batchKeySize:])
	if b = b[batchKeySize+max(n, 0):]; n > 0 && len(b) > 0 && b[0] == batchFormat {
		m[shard] = max(m[shard], p-1)
	}
}
