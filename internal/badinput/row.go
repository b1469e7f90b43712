package badinput

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
)

// A Row is a request, and what has to become of it.
type Row struct {
	Name string
	// Method is the full name of the RPC that takes the request.
	Method string
	// Request is the request as it stands on the wire: some of what is wrong no encoder would write.
	Request []byte
	// Want is the refusal; zero for a request that is answered.
	Want Refusal
	// Answer is what an answered request gets, but for the texts of errors in it.
	Answer proto.Message
	// InSession is false for what a session does not carry, or does not survive.
	InSession bool
}

// A Refusal is what an error says to programs.
type Refusal struct {
	Code   codes.Code
	Reason string
	Field  string
}

// Operation wraps a request for a session. It returns false for what no session carries.
func Operation(id uint64, method string, request []byte) ([]byte, bool) {
	field := operationField(method)
	if field == 0 {
		return nil, false
	}
	b := protowire.AppendTag(nil, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, id)
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), request), true
}

// maxOperation is how long a request may be that a session carries: the limit for frames, less what is around it.
const maxOperation = 4<<20 - 100

// refused makes a row of a request.
func refused(name string, request proto.Message, want Refusal) Row {
	b, err := proto.Marshal(request)
	if err != nil {
		// A mistake in the catalogue, which its first user sees.
		panic(fmt.Sprintf("%s: %v", name, err)) //nolint:forbidigo // the catalogue is code, and for tests only
	}
	return raw(name, methodOf(request), b, want)
}

// answered makes a row of a request that is answered.
func answered(name string, request, answer proto.Message) Row {
	r := refused(name, request, Refusal{})
	r.Answer = answer
	return r
}

// raw makes a row of bytes.
func raw(name, method string, request []byte, want Refusal) Row {
	inSession := operationField(method) != 0 && len(request) < maxOperation
	switch want.Reason {
	case "FRAME_MALFORMED", "TOO_MANY_ELEMENTS", "NESTING_TOO_DEEP", "UNKNOWN_FIELDS_TOO_LARGE":
		inSession = false // it ends one
	}
	return Row{Name: name, Method: method, Request: request, Want: want, InSession: inSession}
}

func invalid(reason, field string) Refusal { return Refusal{codes.InvalidArgument, reason, field} }

// Methods are the full names of all RPCs of the contract, in the order of queue.proto.
func Methods() []string {
	var all []string
	eachMethod(func(name string, _ protoreflect.MethodDescriptor) { all = append(all, name) })
	return all
}

// Response makes an empty message of the kind that a method answers with; nil if there is no such method.
func Response(method string) (response proto.Message) {
	eachMethod(func(name string, m protoreflect.MethodDescriptor) {
		if name != method {
			return
		}
		if kind, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName()); err == nil {
			response = kind.New().Interface()
		}
	})
	return response
}

// methodOf finds the RPC that takes such a request.
func methodOf(request proto.Message) (found string) {
	eachMethod(func(name string, m protoreflect.MethodDescriptor) {
		if m.Input().FullName() == request.ProtoReflect().Descriptor().FullName() {
			found = name
		}
	})
	return found
}

// operationField is the field of Operation that carries the request of an RPC; 0 if none does.
func operationField(method string) (number protowire.Number) {
	fields := (*queuepb.Operation)(nil).ProtoReflect().Descriptor().Oneofs().ByName("request").Fields()
	eachMethod(func(name string, m protoreflect.MethodDescriptor) {
		for i := range fields.Len() {
			if f := fields.Get(i); name == method && f.Message() == m.Input() {
				number = f.Number()
			}
		}
	})
	return number
}

func eachMethod(do func(name string, m protoreflect.MethodDescriptor)) {
	services := queuepb.File_api_queue_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			m := methods.Get(j)
			do(fmt.Sprintf("/%s/%s", services.Get(i).FullName(), m.Name()), m)
		}
	}
}

// Rows is the catalogue, by name.
func Rows(f *Fixture) []Row {
	rows := slices.Concat(
		decodingRows(f), scanRows(), enqueueRows(), messageRows(f), pipeRows(f), consumeRows(f), leaseRows(f), settleRows(f),
		replyRows(f), handleRows(f), outcomeRows(f), stateRows(f), adminRows(),
	)
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

// Check compares what a request got with what it should have got, and returns what is wrong; "" if nothing is.
func (r *Row) Check(answer []byte, got Refusal) string {
	if got != r.Want {
		return fmt.Sprintf("got %v, want %v", got, r.Want)
	}
	if r.Answer == nil {
		return ""
	}
	message := r.Answer.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(answer, message); err != nil {
		return fmt.Sprintf("the answer %x: %v", answer, err)
	}
	return cmp.Diff(r.Answer, message, protocmp.Transform(), protocmp.IgnoreFields(&queuepb.Error{}, "message"))
}
