package integration_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/badinput"
)

// errorsDocument is the section of docs/errors.md with this title.
func errorsDocument(t *testing.T, title string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+title+"\n")
	if !ok {
		t.Fatalf("docs/errors.md has no section %q", title)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// The document has what comes of everything that is wrong below the requests, and of nothing else.
func TestTransportDocument(t *testing.T) {
	t.Parallel()
	var want, got []string
	for _, r := range transportRows() {
		want = append(want, fmt.Sprintf("| %s | %s |", r.name, r.want))
	}
	for name := range bareRows() {
		want = append(want, fmt.Sprintf("| %s | closed |", name))
	}
	rows := regexp.MustCompile(`(?m)^\| .+ \| .+ \|$`)
	for _, line := range rows.FindAllString(errorsDocument(t, "Below the requests"), -1) {
		if line != "| what is wrong | what comes back |" {
			got = append(got, line)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/errors.md (-what is tested +what is documented):\n%s", diff)
	}
}

// provoked are the reasons that no row of a table provokes, and the tests that do.
var provoked = map[string]string{
	"CONSUMER_TAKEN_OVER": "TestTakenOver",
	"SESSION_TAKEN_OVER":  "TestTakenOver",
	"PIPE_FULL":           "TestPipeBounds",
	"REPLIES_TRIMMED":     "TestPipeBounds",
	"HANDLE_REVOKED":      "TestP17DroppedKey",
	"DRAINING":            "TestP22Draining",
	"SLOW_CONSUMER":       "TestP21SlowSession",
	"OP_MISSING":          "TestP26BadOperations",
	"CREDENTIALS_MISSING": "TestP26BadCredentials",
	"CREDENTIALS_INVALID": "TestP26BadCredentials",
	"TENANT_QUOTA":        "TestPromise8Quotas",
	"PIPE_QUOTA":          "TestPromise8Quotas",
	"TOO_MANY_FORGERIES":  "TestP15Forgers",
	"SERVER_OVERLOADED":   "TestP20Overload",
	"KEY_QUOTA":           "../broker/key_test.go TestKeysAreBounded",
	"DISK_FULL":           "TestDiskNearlyFull",
	"JOURNAL_SLOW":        "../server/stall_test.go TestStalledPlainCalls",
	"JOURNAL_FAILED":      "../server/stall_test.go TestJournalFailed",
	"OWNER_CHANGED":       "../server/owner_test.go TestOwnerChanged",
	"OWNER_UNREACHABLE":   "../server/relay_test.go TestNobodyServes",
	"NOT_REPLICATED":      "../server/reach_test.go TestClusterIsNotRelayed",
	"TENANT_MISMATCH":     "../server/relay_test.go TestRelayedIdentityIsProven",
	"INTERNAL":            "../server/edges_test.go TestPanic",
}

// Every reason that the document has is provoked by a request to the built binary, or there is a word on why not.
func TestP26EveryReasonIsProvoked(t *testing.T) {
	t.Parallel()
	ring, err := handles.ParseKeys(vectorCluster, []byte("0 mint 2024-01-01T00:00:00Z "+vectorRoot))
	if err != nil {
		t.Fatal(err)
	}
	sample := badinput.Sample(ring)
	inTables := make(map[string]bool)
	for _, r := range badinput.Rows(sample) {
		inTables[r.Want.Reason] = true
	}
	for _, r := range sessionRows(t, sample) {
		inTables[r.want.Reason] = true
	}
	delete(inTables, "")
	document, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	reasons, _, _ := strings.Cut(string(document), "\n## Ends\n")
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z][A-Z_]+) \|`).FindAllStringSubmatch(reasons, -1) {
		reason := m[1]
		switch test, ok := provoked[reason]; {
		case inTables[reason] && ok:
			t.Errorf("%s is in a table now: take it out of provoked", reason)
		case !inTables[reason] && !ok:
			t.Errorf("no test provokes %s", reason)
		case ok:
			checkTestExists(t, test)
		}
		delete(inTables, reason)
	}
	if len(inTables) > 0 {
		t.Errorf("docs/errors.md lacks %v", slices.Sorted(maps.Keys(inTables)))
	}
}

// checkTestExists looks for a test, in a file or anywhere here.
func checkTestExists(t *testing.T, test string) {
	t.Helper()
	file, name, elsewhere := strings.Cut(test, " ")
	files := []string{file}
	if !elsewhere {
		name = test
		entries, err := os.ReadDir(".")
		if err != nil {
			t.Fatal(err)
		}
		files = nil
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), "_test.go") {
				files = append(files, e.Name())
			}
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "func "+name+"(t *testing.T)") {
			return
		}
	}
	t.Errorf("there is no %s", test)
}
