// Package archtest holds tests that keep the repository's rules: who may import whom, where gRPC
// and other large dependencies may appear, that every package says what it is for, and that the
// broker's shards stay deterministic.
//
// The rules stand as tables in rules_test.go; a new package needs a row there. Each check takes a
// file tree, so that the checks themselves are tested on trees that break every rule
// (selftest_test.go). It has no code to import.
package archtest
