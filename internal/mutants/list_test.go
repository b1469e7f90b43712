package mutants

// A mutant is one mistake.
type mutant struct {
	name string
	file string // from the repository's root
	from string // stands there exactly once
	to   string
	// pkgs are those whose tests are run; run selects among them, all if it is empty.
	pkgs []string
	run  string
}

const models = "./broker/modeltest"

// list are the mistakes: those that queues and brokers are known for.
var list = []mutant{ //nolint:gochecknoglobals // constant
	{
		name: "confirm before it is kept",
		file: "broker/keeper.go", from: "if len(k.facts) == 0 && !k.writing && k.vouchedLocked()", to: "if !k.writing && k.vouchedLocked()",
		pkgs: []string{"./broker"}, run: "Kept|Restore",
	},
	{
		name: "a redelivery loses its waiter",
		file: "broker/message.go", from: "if m.replyTo.isZero() {\n\t\treturn\n", to: "if m.replyTo.isZero() || m.attempt > 1 {\n\t\treturn\n",
		pkgs: []string{models}, run: "Pipes|Concurrent",
	},
	{
		name: "settle twice",
		file: "broker/settle.go", from: "case m.state != messageLeased || uint16(m.attempt) != h.Attempt():", to: "case m.state == messageDead || uint16(m.attempt) != h.Attempt():",
		pkgs: []string{models}, run: "Queues|Concurrent",
	},
	{
		name: "an ack of any attempt counts",
		file: "broker/settle.go", from: "case m.state != messageLeased || uint16(m.attempt) != h.Attempt():", to: "case m.state != messageLeased:",
		pkgs: []string{models}, run: "Queues|Concurrent|Month",
	},
	{
		name: "a message of the same slot takes the lease",
		file: "broker/settle.go", from: "case m.state <= messageReserved || m.nonce != h.Nonce():", to: "case m.state <= messageReserved:",
		pkgs: []string{models}, run: "Queues|Pipes",
	},
	{
		name: "a pipe of the same slot takes the handle",
		file: "broker/state.go", from: "p.state != pipeFree && p.nonce == ref.nonce", to: "p.state != pipeFree",
		pkgs: []string{models}, run: "Pipes",
	},
	{
		name: "another tenant's handle is as good",
		file: "handles/keyring.go", from: "case h.Tenant() != tenant:", to: "case h.Tenant() != tenant && tenant == 0:",
		pkgs: []string{"./handles", "./server"},
	},
	{
		name: "compare half of the MAC",
		file: "handles/keyring.go", from: "subtle.ConstantTimeCompare(tag[:], h.b[offTag:])", to: "subtle.ConstantTimeCompare(tag[:8], h.b[offTag:offTag+8])",
		pkgs: []string{"./handles"},
	},
	{
		name: "a restart forgets attempts",
		file: "broker/restore.go", from: "q.live.bytes += uint64(len(m.body))", to: "m.attempt = 0\n\t\tq.live.bytes += uint64(len(m.body))",
		pkgs: []string{"./broker"},
	},
	{
		name: "a restart forgets idempotency keys",
		file: "broker/key.go", from: "s.commit(&factpb.KeyUsed{", to: "s.st.apply(&factpb.KeyUsed{",
		pkgs: []string{"./broker"}, run: "Key|Replay|Restore",
	},
	{
		name: "delays of retries are rounded down", // in the wheel it would do no harm: what fires too early is set again
		file: "broker/message.go", from: "notBefore = s.now.Add(delay)", to: "notBefore = s.now.Add(delay.Truncate(time.Second))",
		pkgs: []string{models}, run: "Month|Queues",
	},
	{
		name: "a reader comes back one reply too late",
		file: "broker/pipe.go", from: "next: from, credit: op.Credit", to: "next: from + min(from-1, 1), credit: op.Credit",
		pkgs: []string{models}, run: "Pipes",
	},
	{
		name: "replies are handed out without credit",
		file: "broker/pipe.go", from: "for r.next <= p.last() && r.credit > 0 {", to: "for r.next <= p.last() {",
		pkgs: []string{models}, run: "Pipes",
	},
	{
		name: "a dead message leaves its waiter waiting",
		file: "broker/message.go", from: "s.loseAll(m, carrierRef{shard: s.st.shard, slot: slot, number: uint64(m.tag)}, g.fate)",
		to:   "if g.fate != EndDeadLettered {\n\t\ts.loseAll(m, carrierRef{shard: s.st.shard, slot: slot, number: uint64(m.tag)}, g.fate)\n\t}",
		pkgs: []string{models}, run: "Pipes",
	},
	{
		name: "a stop drops the last frame",
		file: "server/session_send.go", from: "if more = ss.fill(); !more {\n\t\t\t\tout.finish(pong, away)\n\t\t\t}",
		to:   "if more = ss.fill(); !more {\n\t\t\t\tout.finish(pong, away)\n\t\t\t\tif away != nil {\n\t\t\t\t\tout.reset()\n\t\t\t\t}\n\t\t\t}",
		pkgs: []string{"./server", "./client"},
	},
	{
		name: "of carriers that go at once the first decides",
		file: "broker/carrier.go", from: "if p.losing--; p.losing > 0 || p.state != pipeOpen {", to: "if p.losing--; p.state != pipeOpen {",
		pkgs: []string{"./broker"}, run: "Decides",
	},
	{
		name: "tags of messages are drawn",
		file: "broker/enqueue.go", from: "tag = uint32(s.st.order+1) &^ drawnTag", to: "tag = uint32(s.draw()) &^ drawnTag",
		pkgs: []string{"./broker"}, run: "MessageIDs",
	},
	{
		name: "nobody is told that the waiter is gone",
		file: "broker/carrier.go", from: "if c := m.live.holder; c != nil && !c.away {", to: "if c := m.live.holder; c != nil && !c.away && reason == EndOpen {",
		pkgs: []string{models}, run: "Pipes",
	},
}
