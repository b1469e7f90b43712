package broker

type pipeState uint8

const (
	pipeFree pipeState = iota
	pipeOpen
	pipeSpliced // goes on with another pipe's replies
	pipeEnded
)

// A pipe is an ordered sequence of replies that ends once. A million may be open, so what most do not have, or not yet,
// is in content, and the fields are in an order without padding.
type pipe struct {
	nonce    uint64
	deadline Time
	readAt   Time
	options  *pipeConfig
	content  *content // nil while there was no reply, and nothing else that it is for
	carriers carriers
	tenant   uint32
	state    pipeState
	reason   EndReason
	byCall   bool // opened by Call: can be abandoned
	outside  bool // a copy of the send handle is out of custody
	keep     bool // stays open although its caller has gone
	bare     bool // has had a reply from nobody known: an ack then ends it OK
	read     bool // after its end: was read to the end
	related  bool // open: was opened under another pipe, or others under it: see state.relatives

	// losing is how many lost carriers of its send handle are still to be looked at; 0 between operations. It is volatile
	// as well, and stands here because there is room.
	losing uint32
	live   livePipe
}

// A pipeConfig is what a pipe was opened with. It is read only, and shared by all that have the defaults.
type pipeConfig struct {
	grace      Time // durations
	retain     Time
	capReplies uint32
	capBytes   uint64
}

var defaultPipeConfig = pipeConfig{ //nolint:gochecknoglobals // read only
	grace: defaultGrace, retain: defaultRetain, capReplies: defaultCapacityReplies, capBytes: defaultCapacityBytes,
}

// A content is what a pipe has once there is a reply.
type content struct {
	first   uint64 // sequence of the first reply that is kept, or of the next one
	bytes   uint64
	replies []reply // from head on
	head    int
	one     [1]reply // first memory of replies: most pipes have one
	rare    *pipeRare
}

// pipeRare is what few pipes have.
type pipeRare struct {
	endBody []byte
	endText string
	endID   string  // id of the reply that ended it
	inner   pipeRef // spliced: the pipe that it goes on with
	feeds   []feed  // the pipes that go on with this one
	known   []byID  // outcomes of replies with an id
}

// first is the sequence of the first reply that is kept, or of the next one.
func (p *pipe) first() uint64 {
	if p.content == nil {
		return 1
	}
	return p.content.first
}

func (p *pipe) last() uint64 {
	if p.content == nil {
		return 0
	}
	return p.content.first + uint64(len(p.content.kept())) - 1
}

// replies are those that are kept.
func (p *pipe) replies() []reply {
	if p.content == nil {
		return nil
	}
	return p.content.kept()
}

func (c *content) kept() []reply { return c.replies[c.head:] }

// push adds a reply. A pipe that is full and read from moves along in its memory, instead of having new one time and
// again: that was half of all that the server allocated for streams of replies.
func (c *content) push(r reply) {
	if c.head > 0 && len(c.replies) == cap(c.replies) && c.head >= len(c.replies)/4 {
		n := copy(c.replies, c.kept())
		clear(c.replies[n:])
		c.replies, c.head = c.replies[:n], 0
	}
	c.replies = append(c.replies, r)
	if len(c.replies) == len(c.one)+1 {
		c.one = [1]reply{} // has moved
	}
}

// bytes is what the replies that are kept have together.
func (p *pipe) bytes() uint64 {
	if p.content == nil {
		return 0
	}
	return p.content.bytes
}

// rare is what few pipes have, for reading.
func (p *pipe) rare() pipeRare {
	if p.content == nil || p.content.rare == nil {
		return pipeRare{}
	}
	return *p.content.rare
}

func (p *pipe) feeds() []feed {
	if p.content == nil || p.content.rare == nil {
		return nil
	}
	return p.content.rare.feeds
}

func (p *pipe) inner() pipeRef { return p.rare().inner }

// contentOf gives a pipe a content, if it has none.
func (st *state) contentOf(p *pipe) *content {
	if p.content != nil {
		return p.content
	}
	var c *content
	if n := len(st.freeContents); n > 0 {
		c = st.freeContents[n-1]
		st.freeContents = st.freeContents[:n-1]
	} else {
		c = new(content)
	}
	c.first, c.replies, c.head = 1, c.one[:0], 0
	p.content = c
	st.usage.add(p.tenant, KeptPipes, contentSize)
	return c
}

// rareOf gives a pipe what few have, if it has it not.
func (st *state) rareOf(p *pipe) *pipeRare {
	c := st.contentOf(p)
	if c.rare == nil {
		c.rare = new(pipeRare)
		st.usage.add(p.tenant, KeptPipes, rareSize)
	}
	return c.rare
}

// freeContentsMost is how many contents are kept to be used again.
const freeContentsMost = 1024

// dropContent takes a pipe's content away.
func (st *state) dropContent(p *pipe) {
	c := p.content
	if c == nil {
		return
	}
	p.content = nil
	st.usage.add(p.tenant, KeptPipes, -c.restSize())
	if len(st.freeContents) < freeContentsMost {
		*c = content{}
		st.freeContents = append(st.freeContents, c)
	}
}

// A reply is one item of a pipe.
type reply struct {
	body    []byte
	source  MessageID
	attempt uint32
	handles []carriedHandle
}

// A carrier is a queued or leased message, or a buffered reply, in which a handle of a pipe travels.
type carrier struct {
	carrierRef
	receive bool   // the receive handle; else the send handle
	replyTo bool   // as the message's reply_to
	replied uint32 // the attempt of that message that has replied through the pipe
}

// A carrierRef names a carrier in any shard.
type carrierRef struct {
	reply  bool // a reply; else a message
	shard  uint16
	slot   uint32
	number uint64 // tag of the message; sequence of the reply, or in another shard a number drawn for it
}

// carriers are those of one pipe, in no order. Most pipes have one at most.
type carriers struct {
	first carrier // if its number is not 0
	more  *[]carrier
}

func (c *carriers) len() int {
	n := 0
	if c.first.number != 0 {
		n = 1
	}
	if c.more != nil {
		n += len(*c.more)
	}
	return n
}

// at returns one of them, by its place from 0 on.
func (c *carriers) at(i int) *carrier {
	if i == 0 {
		return &c.first
	}
	return &(*c.more)[i-1]
}

func (c *carriers) add(one carrier) {
	if c.first.number == 0 {
		c.first = one
		return
	}
	if c.more == nil {
		c.more = new([]carrier)
	}
	*c.more = append(*c.more, one)
}

// find returns the place of an entry for a carrier, -1 if there is none. Of several entries the reply_to is the last to be
// found, and so the last to be removed: see loseAll.
func (c *carriers) find(ref carrierRef, receive bool) int {
	found := -1
	for i := range c.len() {
		if one := c.at(i); one.carrierRef == ref && one.receive == receive {
			if found = i; !one.replyTo {
				break
			}
		}
	}
	return found
}

// remove takes one entry for a carrier out.
func (c *carriers) remove(ref carrierRef, receive bool) {
	i := c.find(ref, receive)
	switch {
	case i < 0:
	case c.more == nil:
		c.first = carrier{}
	default:
		last := len(*c.more) - 1
		*c.at(i) = (*c.more)[last]
		if *c.more = (*c.more)[:last]; last == 0 {
			c.more = nil
		}
	}
}

// A feed is a pipe that goes on with another one's replies.
type feed struct {
	outer  pipeRef
	next   uint64 // sequence of the next reply to pass on
	credit uint32
}

// byID is the outcome of a reply that had an id.
type byID struct {
	id       string
	sequence uint64
}

// maxKnownReplies is how many reply ids a pipe remembers.
const maxKnownReplies = 256
