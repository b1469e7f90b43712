package disk

import "errors"

// Errors of [Open] and [Check], for errors.Is. Their text names the file or batch, and the way out.
var (
	// ErrInUse says that another process has the directory.
	ErrInUse = errors.New("the store is in use")
	// ErrNewer says that a newer version has written the store.
	ErrNewer = errors.New("the store is newer than this version")
	// ErrDamaged says that something in the store is not what was written, or is missing. Read yields it too.
	ErrDamaged = errors.New("the store is damaged")
	// ErrVolatile says that the directory is in memory and would not survive the machine.
	ErrVolatile = errors.New("the directory is in memory")
)
