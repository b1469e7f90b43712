package main

import "sync"

// windows keeps a request of each slot in flight until the load is over, with one goroutine for each of n connections,
// which awaits its requests in turn. ask begins the next request of a slot; await awaits what ask has returned.
func windows[T any](
	l *load, n int, ask func(connection int, s *slot) (T, error), await func(*slot, T) error,
) error {
	var wg sync.WaitGroup
	for i, slots := range l.split(n) {
		wg.Go(func() {
			if err := window(l, slots, func(s *slot) (T, error) { return ask(i, s) }, await); err != nil {
				l.fail(err)
			}
		})
	}
	err := l.wait()
	wg.Wait()
	return err
}

func window[T any](l *load, slots []*slot, ask func(*slot) (T, error), await func(*slot, T) error) error {
	waiting := make([]T, len(slots))
	busy := make([]bool, len(slots))
	begin := func(i int) (err error) {
		waiting[i], err = ask(slots[i])
		busy[i] = true
		return err
	}
	for i := range slots {
		if err := begin(i); err != nil {
			return err
		}
	}
	for left := len(slots); left > 0 && !l.hasFailed(); {
		for i, s := range slots {
			if !busy[i] {
				continue
			}
			if err := await(s, waiting[i]); err != nil {
				return err
			}
			if !s.finish() {
				busy[i] = false
				left--
			} else if err := begin(i); err != nil {
				return err
			}
		}
	}
	return nil
}
