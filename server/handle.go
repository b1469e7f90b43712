package server

import (
	"errors"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// handle checks form, MAC and kind (0: a pipe handle of either kind), whose failures always refuse a request. gone is
// what else the key ring found wrong: another tenant's, expired, or revoked.
func (c *caller) handle(h *queuepb.Handle, kind handles.Kind, field string) (
	parsed handles.Handle, refused *broker.Error, gone error,
) {
	if h.GetToken() == "" {
		return parsed, refuse(reasonHandleInvalid, field, "the handle is missing: put a "+kindText(kind)+" here"), nil
	}
	if kind == handles.Send && h.Token == c.sent.token {
		return c.sent.handle, nil, nil
	}
	parsed, err := handles.Parse(h.Token)
	if err != nil {
		return parsed, errHandleInvalid(field), nil
	}
	gone = c.verify(parsed)
	if errors.Is(gone, handles.ErrInvalid) {
		return parsed, errHandleInvalid(field), nil
	}
	if got := parsed.Kind(); got != kind && (kind != 0 || got == handles.Lease) {
		return parsed, refuse(broker.ReasonHandleKind, field,
			"this is a "+kindText(got)+": put a "+kindText(kind)+" here"), nil
	}
	if kind == handles.Send && gone == nil {
		c.sent = knownHandle{h.Token, parsed}
	}
	return parsed, nil, gone
}

func kindText(kind handles.Kind) string {
	switch kind {
	case handles.Send:
		return "send handle"
	case handles.Receive:
		return "receive handle"
	case handles.Lease:
		return "lease"
	}
	return "send or receive handle"
}

// pipeHandle checks a handle completely: a bad one refuses the request.
func (c *caller) pipeHandle(h *queuepb.Handle, kind handles.Kind, field string) (handles.Handle, *broker.Error) {
	parsed, refused, gone := c.handle(h, kind, field)
	if refused == nil && gone != nil {
		refused = handleError(gone, field)
	}
	return parsed, refused
}

// lease checks a lease. One that is well formed and cannot be this caller's is as unknown as one that was never made;
// one that has expired is the broker's to judge, which knows whether it was settled.
func (c *caller) lease(h *queuepb.Handle, field string) (handles.Handle, *broker.Error) {
	if h.GetToken() == c.leased.token && c.leased.token != "" {
		return c.leased.handle, nil
	}
	parsed, err := handles.Parse(h.GetToken())
	if err != nil {
		return parsed, refuse(reasonHandleInvalid, field, "not a lease: pass on the one that came with the delivery")
	}
	if got := parsed.Kind(); got != handles.Lease {
		return parsed, refuse(broker.ReasonHandleKind, field,
			"this is a "+kindText(got)+": put the lease here that came with the delivery")
	}
	err = c.verify(parsed)
	if err != nil && !errors.Is(err, handles.ErrExpired) {
		return parsed, refuse(broker.ReasonLeaseUnknown, field, textLeaseUnknown)
	}
	c.leased = knownHandle{h.GetToken(), parsed}
	return parsed, nil
}

func errHandleInvalid(field string) *broker.Error {
	return refuse(reasonHandleInvalid, field,
		"not a handle of this server: it is damaged, forged, or from another server or an earlier run of this one; "+
			"pass handles on exactly as they came")
}

// handleError is the refusal for what the key ring found wrong.
func handleError(err error, field string) *broker.Error {
	switch {
	case errors.Is(err, handles.ErrUnknown):
		return refuse(broker.ReasonHandleUnknown, field, textHandleUnknown)
	case errors.Is(err, handles.ErrExpired):
		return refuse(reasonHandleExpired, field, "the handle has expired with its pipe: ask for a new one")
	case errors.Is(err, handles.ErrRevoked):
		return refuse(reasonHandleRevoked, field, "the handle was revoked: ask for a new one")
	}
	return errHandleInvalid(field)
}

// goneResult is the outcome of a reply through a handle that is genuine and cannot be used any more.
func goneResult(gone error) broker.ReplyResult {
	switch {
	case errors.Is(gone, handles.ErrExpired):
		return broker.ReplyResult{Outcome: broker.ReplyEnded, EndReason: broker.EndExpired}
	case errors.Is(gone, handles.ErrRevoked):
		return broker.ReplyResult{Outcome: broker.ReplyEnded, EndReason: broker.EndRevoked}
	}
	return broker.ReplyResult{Outcome: broker.ReplyUnknown}
}

// namedHandles checks and converts the handles that a message or reply carries. In a Settle (lenient) only form, kind
// and MAC can refuse it: handles that came with the delivery never do, and the server cannot tell those from others. One
// that cannot be used any more then counts as ended, and so does another tenant's.
func (c *caller) namedHandles(
	all map[string]*queuepb.Handle, field string, lenient bool,
) ([]broker.NamedHandle, *broker.Error) {
	if len(all) == 0 {
		return nil, nil
	}
	if len(all) > maxHandles {
		return nil, refuse(reasonHandlesTooMany, field, "send at most 32 handles")
	}
	named := make([]broker.NamedHandle, 0, len(all))
	for name, h := range all {
		if name == "" || len(name) > maxHandleName || !handleNameChars.all(name) {
			return nil, refuse(reasonHandleNameInvalid, mapField(field, name),
				`write names with 1 to 64 characters of a-z, 0-9, "_", "." and "-"`)
		}
		parsed, refused := c.carried(h, 0, lenient)
		if refused != nil {
			refused.Field = mapField(field, name)
			return nil, refused
		}
		named = append(named, broker.NamedHandle{Name: name, Handle: parsed})
	}
	return named, nil
}

// carried checks one handle that a message or reply carries; see namedHandles. The caller names the field.
func (c *caller) carried(h *queuepb.Handle, kind handles.Kind, lenient bool) (handles.Handle, *broker.Error) {
	parsed, refused, gone := c.handle(h, kind, "")
	switch {
	case refused != nil, gone == nil:
		return parsed, refused
	case lenient && errors.Is(gone, handles.ErrExpired):
		return parsed, nil
	case lenient:
		return c.ended(parsed.Kind()), nil
	}
	return parsed, handleError(gone, "")
}

// ended stands in for a handle whose pipe the broker must not look at: another tenant's, or a revoked one's. It is of no
// store, and so its pipe has ended, as far as the broker can tell. What is stored and delivered is the token itself.
func (c *caller) ended(kind handles.Kind) handles.Handle {
	return c.srv.keys.Mint(handles.Claims{Kind: kind, Tenant: c.id.Tenant, Store: ^c.tenure.broker.Store(), Nonce: 1})
}

// found collects the genuine pipe handles that stand as text in what a message or reply carries unparsed.
func (c *caller) found(all []handles.Handle, text []byte) []handles.Handle {
	handles.Scan(text, func(h handles.Handle) {
		if h.Tenant() != c.id.Tenant || h.Kind() == handles.Lease {
			return // not worth a MAC, see Scan
		}
		if len(all) > 0 && all[len(all)-1] == h {
			return
		}
		if c.srv.keys.Verify(h, c.id.Tenant, c.now) == nil {
			all = append(all, h)
		}
	})
	return all
}

// foundInHeaders does the same for header values.
func (c *caller) foundInHeaders(all []handles.Handle, headers map[string]string) []handles.Handle {
	for _, value := range headers {
		if len(value) >= handles.TextSize {
			all = c.found(all, []byte(value))
		}
	}
	return all
}

// plainHandles copies a map of handles without the unknown fields that a client may have put into them.
func plainHandles(all map[string]*queuepb.Handle) map[string]*queuepb.Handle {
	if len(all) == 0 {
		return nil
	}
	plain := make(map[string]*queuepb.Handle, len(all))
	for name, h := range all {
		plain[name] = &queuepb.Handle{Token: h.GetToken()}
	}
	return plain
}
