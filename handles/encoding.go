package handles

import (
	"database/sql"
	"database/sql/driver"
	"encoding"
	"encoding/json"
)

// A handle can travel in any document, so it speaks the usual encodings.
var (
	_ encoding.TextAppender      = Handle{}
	_ encoding.TextMarshaler     = Handle{}
	_ encoding.TextUnmarshaler   = (*Handle)(nil)
	_ encoding.BinaryAppender    = Handle{}
	_ encoding.BinaryMarshaler   = Handle{}
	_ encoding.BinaryUnmarshaler = (*Handle)(nil)
	_ json.Marshaler             = Handle{}
	_ json.Unmarshaler           = (*Handle)(nil)
	_ driver.Valuer              = Handle{}
	_ sql.Scanner                = (*Handle)(nil)
)

// AppendText appends the text form, and nothing for the zero Handle. The error is always nil.
func (h Handle) AppendText(b []byte) ([]byte, error) {
	if h.IsZero() {
		return b, nil
	}
	return h.appendText(b), nil
}

// MarshalText returns the text form, empty for the zero Handle. The error is always nil.
func (h Handle) MarshalText() ([]byte, error) {
	return h.AppendText(make([]byte, 0, TextSize))
}

// UnmarshalText sets h to the handle with this text form, as strictly as [Parse], and to the
// zero Handle if text is empty. The error is [ErrInvalid] and leaves h as it was.
func (h *Handle) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*h = Handle{}
		return nil
	}
	return h.set(parseText(text))
}

// AppendBinary appends the [Size] bytes, and nothing for the zero Handle. The error is always
// nil.
func (h Handle) AppendBinary(b []byte) ([]byte, error) {
	if h.IsZero() {
		return b, nil
	}
	return append(b, h.b[:]...), nil
}

// MarshalBinary returns the [Size] bytes, none for the zero Handle. The error is always nil.
func (h Handle) MarshalBinary() ([]byte, error) {
	return h.AppendBinary(make([]byte, 0, Size))
}

// UnmarshalBinary sets h as [ParseBytes] would, and to the zero Handle if b is empty. The
// error is [ErrInvalid] and leaves h as it was.
func (h *Handle) UnmarshalBinary(b []byte) error {
	if len(b) == 0 {
		*h = Handle{}
		return nil
	}
	return h.set(ParseBytes(b))
}

// MarshalJSON returns the text form as a JSON string, null for the zero Handle. The error is
// always nil.
func (h Handle) MarshalJSON() ([]byte, error) {
	if h.IsZero() {
		return []byte("null"), nil
	}
	b := append(make([]byte, 0, TextSize+2), '"')
	return append(h.appendText(b), '"'), nil
}

// UnmarshalJSON sets h from a JSON string, as strictly as [Parse], and to the zero Handle if
// the value is null. The error is [ErrInvalid] and leaves h as it was.
func (h *Handle) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*h = Handle{}
		return nil
	}
	var text string // through encoding/json, since a valid string may contain escapes
	if err := json.Unmarshal(data, &text); err != nil {
		return ErrInvalid // err may quote the data
	}
	return h.set(Parse(text))
}

// Value returns the text form as a string, nil (SQL NULL) for the zero Handle. The error is
// always nil.
func (h Handle) Value() (driver.Value, error) {
	if h.IsZero() {
		return nil, nil
	}
	return h.Text(), nil
}

// Scan sets h from a column of text, given as string or []byte, and to the zero Handle if the
// column is NULL. The error is [ErrInvalid] and leaves h as it was.
func (h *Handle) Scan(src any) error {
	switch src := src.(type) {
	case nil:
		*h = Handle{}
		return nil
	case string:
		return h.set(Parse(src))
	case []byte:
		return h.set(parseText(src))
	default:
		return ErrInvalid
	}
}

// set takes over what a parser returned, unless it is an error.
func (h *Handle) set(parsed Handle, err error) error {
	if err == nil {
		*h = parsed
	}
	return err
}
