package archtest

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// checkImports holds every import of our own packages against importRules.
func checkImports(t *tree) []string {
	var found []string
	for _, dir := range t.dirs() {
		rule, ok := importRules[dir]
		if !ok {
			found = append(found, t.finding(t.in(dir)[0].ast, "package %s has no row in importRules (internal/archtest/rules_test.go)", dir))
			continue
		}
		for _, f := range t.in(dir) {
			for _, spec := range f.ast.Imports {
				target, ok := ours(importPath(spec))
				if !ok || matches(target, rule.code) ||
					f.test && (target == dir || matches(target, rule.tests)) {
					continue
				}
				found = append(found, t.finding(spec, "%s may not import %s", dir, target))
			}
		}
	}
	return found
}

// checkDependencies holds imports of other modules, and of flag, against dependencyRules.
func checkDependencies(t *tree) []string {
	var found []string
	for _, f := range t.files {
		if f.generated {
			continue
		}
		for _, spec := range f.ast.Imports {
			for _, rule := range dependencyRules {
				if !within(importPath(spec), rule.paths) || matches(f.dir, rule.in) || f.test && rule.notTests {
					continue
				}
				found = append(found, t.finding(spec, "%s (%s) belongs in %s", rule.name, importPath(spec), strings.Join(rule.in, ", ")))
			}
		}
	}
	return found
}

// checkShard finds goroutines, clocks, chance, locks and I/O in the state machine of package broker.
func checkShard(t *tree) []string {
	var found []string
	for _, f := range t.in("broker") {
		if f.test || f.generated || shellFiles[f.name] {
			continue
		}
		clock := "" // the name under which this file knows package time
		for _, spec := range f.ast.Imports {
			p := importPath(spec)
			if slices.Contains(shardMayNot.imports, p) {
				found = append(found, t.finding(spec, "a shard may not use %s; a file of the shell stands in shellFiles", p))
			}
			if p != "time" {
				continue
			}
			clock = "time"
			if spec.Name != nil {
				clock = spec.Name.Name
			}
			if clock == "." {
				found = append(found, t.finding(spec, "import time by name, so that its use can be seen"))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				found = append(found, t.finding(n, "a shard starts no goroutine; a file of the shell stands in shellFiles"))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && clock != "" && x.Name == clock && slices.Contains(shardMayNot.clock, n.Sel.Name) {
					found = append(found, t.finding(n, "a shard is told the time and may not use time.%s", n.Sel.Name))
				}
			}
			return true
		})
	}
	return found
}

// checkComments wants one package comment in each package that is not generated as a whole.
func checkComments(t *tree) []string {
	var found []string
	for _, dir := range t.dirs() {
		var candidates, commented []*file
		files := t.in(dir)
		onlyTests := !slices.ContainsFunc(files, func(f *file) bool { return !f.test })
		for _, f := range files {
			if f.generated || f.test && !onlyTests {
				continue
			}
			candidates = append(candidates, f)
			if f.ast.Doc != nil && strings.TrimSpace(f.ast.Doc.Text()) != "" {
				commented = append(commented, f)
			}
		}
		switch {
		case len(candidates) == 0:
		case len(commented) == 0:
			found = append(found, t.finding(candidates[0].ast, "package %s has no package comment: what is it for?", dir))
		case len(commented) > 1:
			found = append(found, t.finding(commented[1].ast, "package %s has a second package comment; the first is in %s", dir, commented[0].name))
		default:
			f := commented[0]
			name := strings.TrimSuffix(f.ast.Name.Name, "_test")
			if name != "main" && !strings.HasPrefix(f.ast.Doc.Text(), "Package "+name) {
				found = append(found, t.finding(f.ast, "the package comment begins with %q", "Package "+name))
			}
		}
	}
	return found
}

// checkNames refuses package names that say nothing.
func checkNames(t *tree) []string {
	var found []string
	for _, dir := range t.dirs() {
		if slices.Contains(vagueNames, path.Base(dir)) {
			found = append(found, t.finding(t.in(dir)[0].ast, "package name %s says nothing about what is inside", path.Base(dir)))
		}
	}
	return found
}

// checkIntegration wants nothing but tests in integration_test, and a doc.go at most.
func checkIntegration(t *tree) []string {
	const dir = "integration_test"
	var found []string
	for _, f := range t.files {
		switch {
		case f.dir != dir && !strings.HasPrefix(f.dir, dir+"/"):
		case f.test:
			if f.ast.Name.Name != "integration_test" {
				found = append(found, t.finding(f.ast, "the tests here are package integration_test, not %s", f.ast.Name.Name))
			}
		case f.path != dir+"/doc.go":
			found = append(found, t.finding(f.ast, "integration_test holds only *_test.go files"))
		case f.ast.Name.Name != "integration" || slices.ContainsFunc(f.ast.Decls, notImport):
			found = append(found, t.finding(f.ast, "doc.go is package integration and holds its comment only"))
		}
	}
	return found
}

func notImport(d ast.Decl) bool {
	g, ok := d.(*ast.GenDecl)
	return !ok || g.Tok != token.IMPORT
}
