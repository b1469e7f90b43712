// Package mutants tests the tests: it makes known mistakes in the product, one at a time, and checks that tests notice.
// Run it with `make mutants`, which says which test has caught which mutant.
//
// A mutant is a few lines of a source file and what stands there instead. The go command compiles it from an overlay, so
// neither the product nor the working tree has anything of it. That each one still fits its file is an ordinary test;
// running them takes minutes, and has the build tag mutants.
package mutants
