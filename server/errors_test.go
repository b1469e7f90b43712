package server

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// reasonsIn are the values of the constants of type broker.Reason in a file.
func reasonsIn(t *testing.T, file string) map[string]bool {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(strings.ToLower(spec.Names[0].Name), "reason") {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			value, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			all[value] = true
		}
		return true
	})
	if len(all) < 10 {
		t.Fatalf("only %d reasons found in %s", len(all), file)
	}
	return all
}

// codeNames are the codes as documents spell them.
var codeNames = map[broker.Code]string{
	broker.CodeCancelled: "CANCELLED", broker.CodeInvalidArgument: "INVALID_ARGUMENT",
	broker.CodeDeadlineExceeded: "DEADLINE_EXCEEDED", broker.CodeNotFound: "NOT_FOUND",
	broker.CodeAlreadyExists: "ALREADY_EXISTS", broker.CodePermissionDenied: "PERMISSION_DENIED",
	broker.CodeResourceExhausted: "RESOURCE_EXHAUSTED", broker.CodeFailedPrecondition: "FAILED_PRECONDITION",
	broker.CodeAborted: "ABORTED", broker.CodeOutOfRange: "OUT_OF_RANGE", broker.CodeUnimplemented: "UNIMPLEMENTED",
	broker.CodeInternal: "INTERNAL", broker.CodeUnavailable: "UNAVAILABLE", broker.CodeUnauthenticated: "UNAUTHENTICATED",
}

// TestP26EveryReasonIsDocumented compares docs/errors.md with the code, both ways.
func TestP26EveryReasonIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	reasons, ends, _ := strings.Cut(string(text), "## Ends")
	row := regexp.MustCompile(`(?m)^\| ([A-Z_]+) \| ([A-Z_]+|as the replier gave) \| .+ \|$`)
	documented := make(map[string]string)
	for _, m := range row.FindAllStringSubmatch(reasons, -1) {
		if documented[m[1]] != "" {
			t.Errorf("%s is documented twice", m[1])
		}
		documented[m[1]] = m[2]
	}
	own := reasonsIn(t, "errors.go")
	brokers := reasonsIn(t, "../broker/errors.go")
	for reason := range own {
		if got, want := documented[reason], codeNames[refuse(broker.Reason(reason), "", "").Code]; got != want {
			t.Errorf("docs/errors.md has %q for %s, want %s", got, reason, want)
		}
	}
	for reason := range brokers {
		if documented[reason] == "" {
			t.Errorf("docs/errors.md lacks the broker's %s", reason)
		}
	}
	for reason := range documented {
		if !own[reason] && !brokers[reason] {
			t.Errorf("docs/errors.md has %s, which nothing gives", reason)
		}
	}
	for r := broker.EndOK; int(r) < len(endCodes); r++ {
		want := "as the replier gave"
		switch {
		case r == broker.EndOK:
			want = "OK"
		case r != broker.EndFailed:
			want = codeNames[broker.Code(endCodes[r].code)]
		}
		if !strings.Contains(ends, "\n| "+endName(r)+" | "+want+" | ") {
			t.Errorf("docs/errors.md lacks the end %s with %s", endName(r), want)
		}
		if got, want := "END_REASON_"+endName(r), queuepb.EndReason(r).String(); got != want {
			t.Errorf("end %d is called %s, want %s", r, got, want)
		}
	}
}

// TestBrokerCodes: the codes that the broker gives are gRPC's.
func TestBrokerCodes(t *testing.T) {
	for code, name := range codeNames {
		var c codes.Code
		if err := c.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil || int(c) != int(code) {
			t.Errorf("code %d is called %s, want %d, %v", code, name, c, err)
		}
	}
}

// TestToStatus checks each kind of error that a handler may return.
func TestToStatus(t *testing.T) {
	full := &broker.Error{
		Code: broker.CodeResourceExhausted, Reason: broker.ReasonPipeFull, Field: "payload", Text: "wait",
		RetryAfter: time.Second, Metadata: map[string]string{"first_sequence": "7"},
	}
	for name, test := range map[string]struct {
		err    error
		code   codes.Code
		reason string
		text   string
		known  bool
	}{
		"refusal":         {full, codes.ResourceExhausted, "PIPE_FULL", "wait", true},
		"wrapped refusal": {fmt.Errorf("item 3: %w", full), codes.ResourceExhausted, "PIPE_FULL", "wait", true},
		"cancelled":       {context.Canceled, codes.Canceled, "", "context canceled", true},
		"deadline":        {fmt.Errorf("wait: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "", "wait: context deadline exceeded", true},
		"status":          {status.Error(codes.Aborted, "x"), codes.Aborted, "", "x", true},
		"anything else":   {errors.New("secret"), codes.Internal, "INTERNAL", "the server made a mistake; its log says which", false},
		"end":             {endStatus(&broker.End{Reason: broker.EndBroken}), codes.Aborted, "BROKEN", endCodes[broker.EndBroken].text, true},
		"end with text":   {endStatus(&broker.End{Reason: broker.EndExpired, Text: "late"}), codes.DeadlineExceeded, "EXPIRED", "late", true},
	} {
		t.Run(name, func(t *testing.T) {
			st, trailers, known := toStatus(test.err)
			if st.Code() != test.code || st.Message() != test.text || known != test.known {
				t.Errorf("toStatus(%v) = %v, known %v, want %v %q, known %v", test.err, st, known, test.code, test.text, test.known)
			}
			if got := strings.Join(trailers.Get(trailerReason), ","); got != test.reason {
				t.Errorf("trailer %s = %q, want %q", trailerReason, got, test.reason)
			}
		})
	}
	st, _, _ := toStatus(full)
	var info *errdetails.ErrorInfo
	var retry *errdetails.RetryInfo
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.RetryInfo:
			retry = d
		}
	}
	if info.GetMetadata()["first_sequence"] != "7" || retry.GetRetryDelay().AsDuration() != time.Second {
		t.Errorf("details = %v, want metadata and a delay of 1s", st.Details())
	}
}

// TestTrailersAreSmall: whatever an error says, its trailers stay below 1 KiB.
func TestTrailersAreSmall(t *testing.T) {
	long := map[string]string{
		"ASCII":       strings.Repeat("long ", 1000),
		"not ASCII":   strings.Repeat("größe ", 1000),
		"per cent":    strings.Repeat("%", 5000),
		"short":       "short",
		"three bytes": strings.Repeat("€", 2000),
	}
	for name, text := range long {
		for _, err := range []error{
			&broker.Error{Code: 3, Reason: "R", Field: `messages[200].message.handles["` + strings.Repeat("a", 64) + `"]`, Text: text, RetryAfter: 1},
			&broker.Error{Code: 3, Reason: "R", Text: text, Metadata: map[string]string{"k": text}},
			&endError{code: codes.Unknown, reason: strings.Repeat("R", 64), end: "FAILED", text: text},
		} {
			st, trailers, _ := toStatus(err)
			if size := trailerSize(st, trailers); size > maxTrailers {
				t.Errorf("%s: trailers of %d bytes, want at most %d", name, size, maxTrailers)
			}
			if name == "short" && !strings.Contains(st.Message(), text) && len(st.Details()) > 0 {
				t.Errorf("%s: message = %q, want %q", name, st.Message(), text)
			}
		}
	}
}

func TestShow(t *testing.T) {
	for give, want := range map[string]string{
		"":                        `""`,
		"orders":                  `"orders"`,
		"a\nb":                    `"a\nb"`,
		strings.Repeat("a", 32):   `"` + strings.Repeat("a", 32) + `"`,
		strings.Repeat("a", 33):   `"` + strings.Repeat("a", 32) + `..."`,
		strings.Repeat("\x00", 9): `"` + strings.Repeat(`\x00`, 8) + `..."`,
		"x qh1s_abc":              "(a secret)",
		"Bearer qk1_abc":          "(a secret)",
	} {
		if got := show(give); got != want {
			t.Errorf("show(%q) = %s, want %s", give, got, want)
		}
	}
}
