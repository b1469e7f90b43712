package journal

import "sync"

// A Faulty opens journals in memory that hang and fail, all at once as those on one disk do, at a test's will. The zero
// Faulty is ready to use, and all is well with it.
type Faulty struct {
	mu   sync.Mutex
	hang chan struct{} // nil while all is well; closed to go on
	err  error
}

// Open opens an empty journal.
func (f *Faulty) Open(uint16) (Journal, error) {
	return &Memory{BeforeAppend: func([]byte) error {
		f.mu.Lock()
		hang, err := f.hang, f.err
		f.mu.Unlock()
		if hang != nil {
			<-hang
		}
		return err
	}}, nil
}

// Hang makes appends wait until GoOn.
func (f *Faulty) Hang() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = make(chan struct{})
}

// GoOn lets all appends go on that wait. Calling it again does nothing.
func (f *Faulty) GoOn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hang != nil {
		close(f.hang)
		f.hang = nil
	}
}

// Fail makes later appends fail.
func (f *Faulty) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}
