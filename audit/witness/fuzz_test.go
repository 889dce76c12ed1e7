// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("old 0\n\norigin\n1\n\n"))
	f.Add([]byte("old 7\n" + strings.Repeat("A", 43) + "=\n\nx"))
	f.Fuzz(func(t *testing.T, body []byte) {
		old, proof, signed, err := parseRequest(body)
		if err == nil && !bytes.Equal(appendRequest(nil, old, proof, signed), body) {
			t.Error("two spellings of one request")
		}
		_ = anchors(signed)
	})
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte("{\"checkpoint\":\"a\\n1\\n\"}\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = readLines(bytes.NewReader(text), func(line) error { return nil })
	})
}
