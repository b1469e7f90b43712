package main

import (
	"runtime"
	"syscall"
	"testing"
)

func TestMemoryTellsWhatLives(t *testing.T) {
	before := settledMemory()
	kept := make([]byte, 64<<20)
	for i := range kept {
		kept[i] = 1 // so that it is resident
	}
	after := settledMemory()
	runtime.KeepAlive(kept)
	if grown := after.Heap - before.Heap; grown < 63<<20 || grown > 65<<20 {
		t.Errorf("64 MiB that live are %d bytes of heap", grown)
	}
	if runtime.GOOS != "linux" {
		return
	}
	if grown := after.Resident - before.Resident; grown < 60<<20 {
		t.Errorf("64 MiB that live are only %d bytes resident", grown)
	}
	if memoryAvailable() <= 0 || machineCPU() <= 0 {
		t.Errorf("memory available is %d, CPU used %v", memoryAvailable(), machineCPU())
	}
	cpu, m := groupUsage(syscall.Getpgrp())
	if cpu <= 0 || m.Resident < after.Resident/2 {
		t.Errorf("the group of this process has used %v and has %d bytes resident, this process alone %d", cpu, m.Resident, after.Resident)
	}
}
