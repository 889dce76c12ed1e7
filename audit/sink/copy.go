// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/part164/part164/audit"
)

// ReadCopy reads a document of the native form, as package format makes it and
// a receiver keeps it. It checks that the line in it is whole, and computes its
// leaf hash: what the document says about itself is not believed.
func ReadCopy(doc []byte) (Copy, error) {
	fail := func(err error) (Copy, error) { return Copy{}, fmt.Errorf("audit: read copy: %w", err) }
	var envelope struct {
		Writer string          `json:"writer"`
		Line   json.RawMessage `json:"line"`
	}
	if err := json.Unmarshal(doc, &envelope); err != nil {
		return fail(errors.New("it is no JSON"))
	}
	var head struct {
		Seq uint64 `json:"seq"`
	}
	raw := bytes.TrimSpace(envelope.Line)
	if err := json.Unmarshal(raw, &head); err != nil || envelope.Writer == "" {
		return fail(errors.New("it holds no line of a journal"))
	}
	l, err := audit.ParseLine(audit.Position{Writer: envelope.Writer, Seq: head.Seq}, raw)
	if err != nil {
		return fail(err)
	}
	return Copy{Writer: envelope.Writer, Seq: head.Seq, Leaf: l.Leaf}, nil
}
