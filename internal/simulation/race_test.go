//go:build race

package simulation_test

// With the race detector everything takes eight times as long, and what it finds it finds in few seeds.
const (
	defaultSeeds  = 60
	defaultStride = 997
)
