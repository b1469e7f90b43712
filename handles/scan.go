package handles

import "bytes"

// Scan calls found for every handle that stands in payload in its text form, in order,
// overlapping ones included, so that no handle can be hidden by another. Found means well
// formed: the caller verifies. It sees no handle that is compressed, encrypted or encoded
// once more.
//
// A payload without handles costs one search for three bytes; any other, time linear in its
// length; nothing is allocated. A hostile payload may hold a look-alike every dozen bytes, so
// compare [Handle.Tenant] with the caller's before [KeyRing.Verify], which has to derive the
// key of a tenant that it has not met (about 2 µs).
func Scan(payload []byte, found func(Handle)) {
	for {
		i := bytes.Index(payload, []byte(prefix))
		if i < 0 || len(payload)-i < TextSize {
			return
		}
		payload = payload[i:]
		if plausible(payload) {
			if h, err := parseText(payload[:TextSize]); err == nil {
				found(h)
			}
		}
		payload = payload[len(prefix):]
	}
}

// plausible looks at the characters that are the same in every handle: the first holds most
// of the version, the fourth and fifth most of the reserved bits. It spares most look-alikes
// the decoding.
func plausible(text []byte) bool {
	body := text[prefixSize:]
	return text[prefixSize-1] == '_' && body[0] == 'E' && body[3] == 'A' && body[4] == 'A'
}
