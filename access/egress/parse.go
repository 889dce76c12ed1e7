// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxRegistry bounds what Parse reads, in bytes.
const maxRegistry = 16 << 20

// Parse reads a registry in JSON: an array of recipients, in which every field is
// one that a [Recipient] has. Errors name the line. [New] and [Transport.Load]
// check what is read as they check every list; Parse checks it too.
func Parse(data []byte) ([]Recipient, error) {
	if len(data) > maxRegistry {
		return nil, fmt.Errorf("egress: parse registry: it is longer than %d bytes", maxRegistry)
	}
	bad := func(offset int64, err error) error {
		line := 1 + bytes.Count(data[:min(max(int(offset), 0), len(data))], []byte("\n"))
		return fmt.Errorf("egress: parse registry: line %d: %w", line, err)
	}
	var syntax *json.SyntaxError
	var entries []json.RawMessage
	switch err := json.Unmarshal(data, &entries); {
	case errors.As(err, &syntax):
		return nil, bad(syntax.Offset, err)
	case err != nil || entries == nil:
		return nil, bad(0, errors.New("it is not an array of recipients in JSON"))
	}
	out := make([]Recipient, 0, len(entries))
	d := json.NewDecoder(bytes.NewReader(data))
	d.Token() // of the array that is there
	for _, entry := range entries {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, bad(d.InputOffset(), err)
		}
		start := d.InputOffset() - int64(len(raw))
		strict := json.NewDecoder(bytes.NewReader(entry))
		strict.DisallowUnknownFields()
		var r Recipient
		if err := strict.Decode(&r); err != nil {
			var typ *json.UnmarshalTypeError
			if errors.As(err, &typ) {
				return nil, bad(start+typ.Offset, fmt.Errorf("%s is not a %s", typ.Field, typ.Type))
			}
			if _, name, ok := strings.Cut(err.Error(), "unknown field "); ok {
				start += int64(max(bytes.Index(entry, []byte(name)), 0))
			}
			return nil, bad(start, err)
		}
		if err := r.validate(); err != nil {
			return nil, bad(start, &recipientError{len(out), r.ID, err})
		}
		out = append(out, r)
	}
	return out, nil
}
