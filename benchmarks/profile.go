package main

import (
	"errors"
	"os"
	"runtime"
	"runtime/pprof"
)

// profile writes a CPU profile, and at its end what was allocated.
type profile struct {
	name string
	file *os.File
}

func (p *profile) start(name string) error {
	f, err := os.Create(name + ".cpu.pprof")
	if err != nil {
		return err
	}
	p.name, p.file = name, f
	return pprof.StartCPUProfile(f)
}

func (p *profile) stop() error {
	if p.file == nil {
		return nil
	}
	pprof.StopCPUProfile()
	err := p.file.Close()
	p.file = nil
	f, createErr := os.Create(p.name + ".allocs.pprof")
	if createErr != nil {
		return errors.Join(err, createErr)
	}
	runtime.GC()
	return errors.Join(err, pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}
