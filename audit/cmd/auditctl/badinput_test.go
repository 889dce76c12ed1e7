// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A folder with something wrong in it has its own exit code, and says where.
func TestVerifyTakesNoFolderForSound(t *testing.T) {
	t.Parallel()
	read := func(path string) []byte {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.TrimRight(data, "\x00")
	}
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pack := func(data []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(data)
		_ = w.Close()
		return b.Bytes()
	}
	other := journal(t)
	for name, c := range map[string]struct {
		spoil func(dir, segment string)
		code  int
		says  string
	}{
		"nothing":           {func(string, string) {}, exitOK, "integrity      ok"},
		"a foreign segment": {func(_, segment string) { write(segment, read(filepath.Join(other, "00000001.jsonl"))) }, exitBroken, "BROKEN 00000001.jsonl: offset 0: sequence 0: it is segment 1 of another journal"},
		"a foreign one beside it": {func(dir, _ string) {
			write(filepath.Join(dir, "00000002.jsonl"), read(filepath.Join(other, "00000001.jsonl")))
		}, exitBroken, "BROKEN 00000002.jsonl: offset 0: sequence 12: "},
		"cut":    {func(_, segment string) { write(segment, read(segment)[:900]) }, exitBroken, "unfinished"},
		"packed": {func(_, segment string) { write(segment, pack(read(segment))) }, exitBroken, "unpack it"},
		"packed beside its name": {func(_, segment string) {
			write(segment+".gz", pack(read(segment)))
			_ = os.Remove(segment)
		}, exitCannotRun, `no segment is in the folder: the folder has "00000001.jsonl.gz" instead`},
		"copied as text": {func(_, segment string) { write(segment, bytes.ReplaceAll(read(segment), []byte("\n"), []byte("\r\n"))) }, exitBroken, "CR LF"},
		"a newer release": {func(_, segment string) {
			header, rest, _ := bytes.Cut(read(segment), []byte("\n"))
			_, rest, _ = bytes.Cut(rest, []byte("\n"))
			body := bytes.Replace(header[:len(header)-len(`,"crc":"01234567"}`)], []byte(`"format":1`), []byte(`"format":2`), 1)
			write(segment, fmt.Appendf(nil, "%s,\"crc\":\"%08x\"}\n%s", body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)), rest))
		}, exitCannotRun, "use that release, or its auditctl"},
		"an empty segment": {func(_, segment string) { write(segment, nil) }, exitBroken, "no line"},
		"an empty folder":  {func(dir, segment string) { _ = os.Remove(segment) }, exitCannotRun, "no segment is in the folder"},
		"a folder for a segment": {func(_, segment string) {
			_ = os.Remove(segment)
			_ = os.Mkdir(segment, 0o700)
		}, exitBroken, "no regular file but a folder"},
		"no public key": {func(dir, _ string) { _ = os.Remove(filepath.Join(dir, "verifier.pub")) }, exitCannotRun, "public key"},
	} {
		dir := journal(t)
		c.spoil(dir, filepath.Join(dir, "00000001.jsonl"))
		for _, more := range [][]string{nil, {"--json"}} {
			code, out, errs := ctl(t, append([]string{"verify", dir}, more...)...)
			if code != c.code || more == nil && !strings.Contains(out+errs, c.says) || more != nil && code == exitBroken && !strings.Contains(out, `"ok": false`) {
				t.Errorf("%s %v: exit %d, want %d and %q:\n%s%s", name, more, code, c.code, c.says, out, errs)
			}
			if code != exitOK && strings.Contains(out, "integrity      ok") {
				t.Errorf("%s: says ok:\n%s", name, out)
			}
		}
		want := c.code
		if want == exitOK {
			want = exitUnwitnessed
		}
		if code, _, _ := ctl(t, "verify", dir, "--require-witness"); code != want {
			t.Errorf("%s, a witness required: exit %d, want %d", name, code, want)
		}
	}
}
