package natstest

import "syscall"

// attributes make the kernel end a server whose test process was killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
