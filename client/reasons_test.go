package client

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
)

// Every reason that a server may give has a name here, and comes as an error that is it: from a session, from a plain
// RPC's status, and from its trailers.
func TestEveryReasonIsTyped(t *testing.T) {
	named := namedReasons(t)
	documented := documentedReasons(t)
	if len(documented) < 50 {
		t.Fatalf("docs/errors.md lists %d reasons: was its form changed?", len(documented))
	}
	for reason, code := range documented {
		if !named[reason] {
			t.Errorf("%s is in docs/errors.md, and has no constant in reasons.go", reason)
		}
		refusal := &Error{Code: code, Reason: reason, Message: "no"}
		for way, err := range map[string]error{
			"session": (&result{kind: resultError, body: wireError(t, code, reason)}).failure(),
			"status":  fromStatus(refusal.GRPCStatus().Err(), nil),
			"trailer": fromStatus(status.Error(code, "no"), metadata.Pairs("replyq-reason", string(reason))),
		} {
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, reason) || e.Code != code || status.Code(err) != code {
				t.Errorf("%s by %s: got %v", reason, way, err)
			}
			if errors.Is(err, ErrClosed) {
				t.Errorf("%s by %s: is another reason, too", reason, way)
			}
		}
	}
}

func wireError(t *testing.T, code codes.Code, reason Reason) []byte {
	t.Helper()
	b, err := (&queuepb.Error{Code: int32(code), Reason: string(reason), Message: "no"}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// documentedReasons are the rows of docs/errors.md that have a reason and its code.
func documentedReasons(t *testing.T) map[Reason]codes.Code {
	t.Helper()
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[Reason]codes.Code)
	for _, row := range regexp.MustCompile(`(?m)^\| ([A-Z_]+) \| ([A-Z_]+) \|`).FindAllStringSubmatch(string(text), -1) {
		var code codes.Code
		if err := code.UnmarshalJSON([]byte(strconv.Quote(row[2]))); err != nil {
			t.Errorf("%s: %v", row[1], err)
		}
		if code != codes.OK {
			all[Reason(row[1])] = code
		}
	}
	return all
}

// namedReasons are the values of the constants of type Reason.
func namedReasons(t *testing.T) map[Reason]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[Reason]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for _, value := range spec.Values {
			if literal, ok := value.(*ast.BasicLit); ok {
				text, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				all[Reason(text)] = true
			}
		}
		return true
	})
	return all
}
