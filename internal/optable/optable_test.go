package optable_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/replyq/replyq/internal/optable"
)

// TestTable compares a table with a map under random use: numbers close together, far apart, and at both ends.
func TestTable(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	var table optable.Table[int]
	want := make(map[uint64]int)
	spans := []uint64{40, 3000, 1 << 40, 1<<64 - 1}
	for step := range 200_000 {
		number := draw.Uint64N(spans[draw.IntN(len(spans))])
		switch draw.IntN(3) {
		case 0:
			*table.Put(number) = step
			want[number] = step
		case 1:
			table.Delete(number)
			delete(want, number)
		default:
			got := table.Get(number)
			if v, ok := want[number]; ok != (got != nil) || ok && *got != v {
				t.Fatalf("step %d: number %d: got %v, want %d, %v", step, number, got, v, ok)
			}
		}
		if table.Len() != len(want) {
			t.Fatalf("step %d: %d numbers, want %d", step, table.Len(), len(want))
		}
	}
	var numbers []uint64
	for number, value := range table.All() {
		numbers = append(numbers, number)
		if *value != want[number] {
			t.Errorf("number %d: got %d, want %d", number, *value, want[number])
		}
		table.Delete(number)
	}
	if sorted := slices.Sorted(maps.Keys(want)); !slices.Equal(numbers, sorted) {
		t.Errorf("All gives %d numbers out of order or not all, want %d", len(numbers), len(sorted))
	}
	if table.Len() != 0 {
		t.Errorf("%d numbers are left", table.Len())
	}
}

// TestPutKeeps checks that Put leaves a value alone, and that Delete clears it.
func TestPutKeeps(t *testing.T) {
	var table optable.Table[string]
	*table.Put(7) = "a"
	if got := *table.Put(7); got != "a" {
		t.Errorf("after a second Put: %q, want the first value", got)
	}
	table.Delete(7)
	if got := *table.Put(7); got != "" {
		t.Errorf("after Delete and Put: %q, want the zero value", got)
	}
}

// Numbers as a session has them: rising, 256 open at a time.
func BenchmarkTable(b *testing.B) {
	b.Run("table", func(b *testing.B) {
		var table optable.Table[uint32]
		b.ReportAllocs()
		for i := uint64(1); b.Loop(); i++ {
			*table.Put(i) = 1
			table.Get(i)
			table.Delete(i - 256)
		}
	})
	b.Run("map", func(b *testing.B) {
		table := make(map[uint64]uint32)
		b.ReportAllocs()
		for i := uint64(1); b.Loop(); i++ {
			table[i] = 1
			_ = table[i]
			delete(table, i-256)
		}
	})
}
