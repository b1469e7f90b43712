package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// A language is one in which the parts of the story are written. The programs have the same names, options and events
// in all of them.
type language string

const (
	inGo     language = "go"
	inPython language = "python"
	inNode   language = "node"
)

// languages returns those that are tested.
func languages() []language {
	if skipPolyglot() {
		return []language{inGo}
	}
	return []language{inGo, inPython, inNode}
}

// next returns another language, for the other side of a story.
func (l language) next() language {
	all := languages()
	return all[(slices.Index(all, l)+1)%len(all)]
}

func skipPolyglot() bool { return os.Getenv("REPLYQ_SKIP_POLYGLOT") != "" }

// inEach runs a test for each language.
func inEach(t *testing.T, test func(*testing.T, language)) {
	for _, l := range languages() {
		t.Run(string(l), func(t *testing.T) {
			t.Parallel()
			test(t, l)
		})
	}
}

// inEachPair runs a test for each language of a consumer with each language of a producer.
func inEachPair(t *testing.T, test func(t *testing.T, consumer, producer language)) {
	for _, consumer := range languages() {
		for _, producer := range languages() {
			t.Run(fmt.Sprintf("%s-answers-%s", consumer, producer), func(t *testing.T) {
				t.Parallel()
				test(t, consumer, producer)
			})
		}
	}
}

// play starts a program that plays a part of the story against a server.
func (s *server) play(t *testing.T, l language, role string, args ...string) *process {
	t.Helper()
	args = append([]string{"--server", s.addr}, args...)
	var cmd *exec.Cmd
	switch l {
	case inGo:
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd = exec.Command(self, args...)
		cmd.Env = append(os.Environ(), roleVariable+"="+role)
	case inPython:
		cmd = exec.Command(python(t), append([]string{filepath.Join("python", role+".py")}, args...)...)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+stubs.python(t), "PYTHONDONTWRITEBYTECODE=1")
	case inNode:
		cmd = exec.Command("node", append([]string{filepath.Join("node", role+".js")}, args...)...)
		cmd.Env = append(os.Environ(), "NODE_PATH="+nodeModules(t))
	}
	return start(t, fmt.Sprintf("%s %s", l, role), cmd)
}

// consumer starts a consumer, and waits until it is registered.
func (s *server) consumer(t *testing.T, l language, queue, do string, args ...string) *process {
	t.Helper()
	p := s.play(t, l, "consumer", append([]string{"--queue", queue, "--do", do}, args...)...)
	p.await(t, "started")
	return p
}

// python returns the interpreter that has what the programs need.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("REPLYQ_PYTHON")
	if path == "" {
		path = filepath.Join(".venv", "bin", "python")
	}
	return installed(t, path)
}

// nodeModules returns the folder that has what the programs need.
func nodeModules(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("REPLYQ_NODE_DIR")
	if dir == "" {
		dir = "node"
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatalf("%v: install Node, or set REPLYQ_SKIP_POLYGLOT=1", err)
	}
	return installed(t, filepath.Join(dir, "node_modules"))
}

func installed(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: make integration installs it; REPLYQ_SKIP_POLYGLOT=1 leaves Python and Node out", err)
	}
	return path
}

// stubs are what is made of the proto files, once for all tests. Node makes its own when a program starts.
var stubs stubMaker

type stubMaker struct {
	dir  string
	once sync.Once
	err  error
}

// python returns the folder with the stubs for Python, made as a stranger would make them.
func (s *stubMaker) python(t *testing.T) string {
	t.Helper()
	s.once.Do(func() {
		cmd := exec.Command(python(t), "-m", "grpc_tools.protoc", "-I", "../api", "-I", "python",
			"--python_out="+s.dir, "--grpc_python_out="+s.dir, "../api/queue.proto", "python/status.proto")
		if out, err := cmd.CombinedOutput(); err != nil {
			s.err = fmt.Errorf("make the stubs for Python: %w\n%s", err, out)
		}
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.dir
}
