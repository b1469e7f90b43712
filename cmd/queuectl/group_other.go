//go:build !unix

package main

import "os/exec"

// Without process groups only the command itself can be ended.

func ownGroup(*exec.Cmd) {}

func terminate(cmd *exec.Cmd) { _ = cmd.Process.Kill() } // it may be gone already

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() } // as above
