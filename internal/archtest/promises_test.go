package archtest

import (
	"fmt"
	"go/ast"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestPromises compares docs/promises.md with the tests: every promise has its row, and every row its tests, which are
// where it says and are named after the promise.
func TestPromises(t *testing.T) {
	doc, err := os.ReadFile("../../docs/promises.md")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range checkPromises(string(doc), tree.tests()) {
		t.Error(finding)
	}
}

// tests are the names of the test functions, by file.
func (t *tree) tests() map[string][]string {
	tests := make(map[string][]string)
	for _, f := range t.files {
		if !f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil && isTest.MatchString(d.Name.Name) {
				tests[f.path] = append(tests[f.path], d.Name.Name)
			}
		}
	}
	return tests
}

var (
	isTest  = regexp.MustCompile(`^(Test|Fuzz|Example)`)
	link    = regexp.MustCompile(`\[(\w+)\]\(\.\./([^)]+)\)`)
	ordinal = regexp.MustCompile(`^(P?)([0-9]+)$`)
	// ofPromise takes the number from the name of a test: Promise4 or P14.
	ofPromise = regexp.MustCompile(`^TestP(?:romise([0-9])|([0-9][0-9]))(?:[A-Z]|$)`)
)

// notYet begins the figure of a promise that this version does not make.
const notYet = "Not promised yet"

func checkPromises(doc string, tests map[string][]string) (findings []string) {
	find := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	var numbers []string
	listed := make(map[string]bool) // as "number test"
	for _, row := range strings.Split(doc, "\n") {
		cells := strings.Split(row, "|")
		if len(cells) != 7 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		number := cells[1]
		if !ordinal.MatchString(number) {
			continue
		}
		numbers = append(numbers, number)
		if cells[2] == "" || cells[5] == "" {
			find("%s: a promise needs a sentence and a figure", number)
		}
		named := link.FindAllStringSubmatch(cells[3], -1)
		if len(named) == 0 && !strings.HasPrefix(cells[5], notYet) {
			find("%s: no test is named after it", number)
		}
		for _, l := range named {
			if numberOf(l[1]) != number {
				find("%s: %s is not named after it", number, l[1])
			}
			listed[number+" "+l[1]] = true
		}
		for _, l := range append(named, link.FindAllStringSubmatch(cells[4], -1)...) {
			if !slices.Contains(tests[path.Clean(l[2])], l[1]) {
				find("%s: there is no %s in %s", number, l[1], l[2])
			}
		}
	}
	if want := allNumbers(); !slices.Equal(numbers, want) {
		find("the promises are %v, want %v", numbers, want)
	}
	for file, names := range tests {
		for _, name := range names {
			if number := numberOf(name); number != "" && !listed[number+" "+name] {
				find("%s: %s is not in the row of %s", file, name, number)
			}
		}
	}
	slices.Sort(findings)
	return findings
}

// numberOf is the promise that a test is named after, "" if it is named after none.
func numberOf(test string) string {
	m := ofPromise.FindStringSubmatch(test)
	switch {
	case m == nil:
		return ""
	case m[1] != "":
		return m[1]
	}
	n, _ := strconv.Atoi(m[2]) // two digits
	return fmt.Sprint("P", n)
}

func allNumbers() (all []string) {
	for n := range 9 {
		all = append(all, fmt.Sprint(n+1))
	}
	for n := range 26 {
		all = append(all, fmt.Sprint("P", n+1))
	}
	return all
}

// TestCheckPromises breaks each rule of TestPromises.
func TestCheckPromises(t *testing.T) {
	var rows []string
	tests := map[string][]string{"a/a_test.go": {"TestFurther"}}
	for _, number := range allNumbers() {
		name := "TestPromise" + number + "Holds"
		if n, ok := strings.CutPrefix(number, "P"); ok {
			name = fmt.Sprintf("TestP%02sHolds", n)
			if len(n) == 1 {
				name = "TestP0" + n + "Holds"
			}
		}
		tests["a/a_test.go"] = append(tests["a/a_test.go"], name)
		rows = append(rows, fmt.Sprintf("| %s | It holds. | [%s](../a/a_test.go) | [TestFurther](../a/a_test.go) | 0 |", number, name))
	}
	good := strings.Join(rows, "\n")
	for _, test := range []struct {
		name, old, new, want string
	}{
		{"nothing broken", "", "", ""},
		{"a row is missing", rows[3] + "\n", "", "the promises are"},
		{"a sentence is missing", "It holds.", "", "1: a promise needs"},
		{"the named test is missing", "[TestPromise2Holds](../a/a_test.go)", "", "2: no test is named after it"},
		{"it is of another promise", "[TestP07Holds]", "[TestP08Holds]", "P7: TestP08Holds is not named after it"},
		{"it is not in that file", "../a/a_test.go", "../b/b_test.go", "1: there is no TestPromise1Holds in b/b_test.go"},
		{"a further one is not there", "[TestFurther]", "[TestFarther]", "1: there is no TestFarther in a/a_test.go"},
		{"a test is in no row", "[TestPromise9Holds](../a/a_test.go) ", "[TestFurther](../a/a_test.go)", "9: TestFurther is not named"},
	} {
		got := checkPromises(strings.Replace(good, test.old, test.new, 1), tests)
		found := slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, test.want) })
		if (test.want == "") != (len(got) == 0) || !found && test.want != "" {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
