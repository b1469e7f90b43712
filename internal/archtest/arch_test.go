package archtest

import (
	"os"
	"strings"
	"testing"
)

// checks are all that is checked, by the name of its subtest.
var checks = []struct {
	name  string
	check func(*tree) []string
}{
	{"imports", checkImports},
	{"dependencies", checkDependencies},
	{"shard", checkShard},
	{"comments", checkComments},
	{"names", checkNames},
	{"integration", checkIntegration},
}

func TestRepository(t *testing.T) {
	root := os.DirFS("../..")
	tree, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.in("internal/archtest")) == 0 {
		t.Fatal("load did not find this package: it looked at the wrong tree")
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			for _, finding := range c.check(tree) {
				t.Error(finding)
			}
		})
	}
}

// TestContractIsSelfContained keeps api/queue.proto usable with one command in any language.
func TestContractIsSelfContained(t *testing.T) {
	src, err := os.ReadFile("../../api/queue.proto")
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range checkProtoImports(string(src)) {
		t.Error(finding)
	}
}

// checkProtoImports finds imports of anything but protobuf's own types.
func checkProtoImports(src string) []string {
	var found []string
	for line := range strings.Lines(src) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "import ") && !strings.Contains(line, `"google/protobuf/`) {
			found = append(found, "queue.proto imports nothing but google/protobuf/*: "+line)
		}
	}
	return found
}
