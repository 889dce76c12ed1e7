// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/part164/part164/audit"
)

// ReadCopy reads a document of the native form, as package format makes it and
// a receiver keeps it. It checks that the line in it is whole, and computes its
// leaf hash: what the document says about itself is not believed. Of a line that
// is not whole it returns, with the error, which event's it says it is, and the
// hash of its bytes.
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
	c := Copy{Writer: envelope.Writer, Seq: head.Seq, Leaf: sha256.Sum256(append([]byte{0}, raw...))}
	if _, err := audit.ParseLine(audit.Position{Writer: c.Writer, Seq: c.Seq}, raw); err != nil {
		return c, fmt.Errorf("audit: read copy: %w", err)
	}
	return c, nil
}
