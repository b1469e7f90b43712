//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup has the command and all it starts in a process group of their own: they can be killed together, and Ctrl-C in
// a terminal does not reach them.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// terminate asks the group to end.
func terminate(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) } // it may be gone already

// killGroup ends the group.
func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // as above
