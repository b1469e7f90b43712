//go:build !race

package simulation_test

const (
	defaultSeeds  = 300
	defaultStride = 97
)
