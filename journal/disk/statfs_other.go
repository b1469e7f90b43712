//go:build !linux

package disk

import (
	"errors"
	"syscall"
)

// refuseMemory cannot tell on this system.
func refuseMemory(string) error { return nil }

// turnedReadOnly cannot tell on this system.
func turnedReadOnly(uintptr) error { return nil }

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// extend is done without on this system.
func extend(uintptr, int64, int64) error { return nil }
