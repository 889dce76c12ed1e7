// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/mod/sumdb/note"
)

// obeyed returns what of text a terminal would obey.
func obeyed(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsGraphic(r) {
			return r
		}
		return -1
	}, text)
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\tb\nüñ—“ok”\n":       "a\tb\nüñ—“ok”\n",
		"\x1b[2J\x07\r\x7f":     `\u001b[2J\u0007\u000d\u007f`,
		"\u0085\u009b1m":        `\u0085\u009b1m`,
		"\u202etxt\u2066\ufeff": `\u202etxt\u2066\ufeff`,
		"\u2028\u2029":          `\u2028\u2029`,
		"\xff\xc3":              `\xff`, // the rest may go on
		"":                      "",
	} {
		var out bytes.Buffer
		p := &plain{w: &out}
		if n, err := p.Write([]byte(in)); n != len(in) || err != nil || out.String() != want {
			t.Errorf("%q: %d, %v, %q, want %q", in, n, err, out.String(), want)
		}
		// The same, byte by byte.
		var slow bytes.Buffer
		p = &plain{w: &slow}
		for i := range len(in) {
			if _, err := p.Write([]byte{in[i]}); err != nil {
				t.Fatal(err)
			}
		}
		if slow.String() != want {
			t.Errorf("%q byte by byte: %q", in, slow.String())
		}
	}
}

// TestNothingInAJournalIsObeyed: whoever can write to a folder cannot make a
// terminal do anything, nor print a line of their own.
func TestNothingInAJournalIsObeyed(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	// A line that nobody signed, chained to the last.
	path := filepath.Join(dir, "00000001.jsonl")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(bytes.TrimRight(data, "\x00"), []byte("\n"))
	last := bytes.TrimSpace(lines[len(lines)-2])
	leaf := sha256.Sum256(append([]byte{0}, last...))
	line := fmt.Appendf(nil, `{"seq":%d,"prev":"%s","time":"2026-11-22T00:00:00.000000Z","type":"search","outcome":"success","actor":{"id":"\u001b[2J\u001b]0;x\u0007\u202e\nfake","tenant":"t-1","kind":"human"},"purpose":"TREAT"`,
		len(lines)-1, base64.RawURLEncoding.EncodeToString(leaf[:]))
	line = fmt.Appendf(line, `,"crc":"%08x"}`+"\n", crc32.Checksum(line, crc32.MakeTable(crc32.Castagnoli)))
	forged := make([]byte, len(data))
	copy(forged, append(bytes.Join(lines, nil), line...))
	// A public key whose name is more than that.
	other := journal(t)
	_, key, err := note.GenerateKey(nil, "part164/\x1b]0;x\x07\u202ej")
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{path: forged, filepath.Join(other, "verifier.pub"): []byte(key + "\n")} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pub := filepath.Join(other, "verifier.pub")
	for _, args := range [][]string{
		{"tail", dir}, {"export", dir}, {"export", dir, "--format", "cef"}, {"verify", dir}, {"compare", dir, path},
		{"keys", other}, {"verify", other}, {"verify", dir, "--pubkey", pub}, {"tail", other}, {"verify-proof", pub, "--pubkey", pub},
		{"tail", dir + "\x1b[2J"}, {"\x1b[2J"}, {"verify", "--\x1b[2J"}, {"export", dir, "--format", "\x1b[2J"},
	} {
		_, out, errs := ctl(t, args...)
		if bad := obeyed(out + errs); bad != "" || strings.Contains(out+errs, "\nfake") || out+errs == "" {
			t.Errorf("auditctl %q: %q in\n%q", args, bad, out+errs)
		}
	}
	if code, out, _ := ctl(t, "keys", other); code != exitOK || !strings.Contains(out, `\u001b]0;x\u0007\u202ej`) {
		t.Errorf("exit %d: %s", code, out)
	}
}
