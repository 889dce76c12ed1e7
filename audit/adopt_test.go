// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto/cryptotest"
)

// Who can make a folder among the siblings, or write to one, but does not have
// the KEK delivers nothing under the survivor's name.
func TestAdoptTakesNoStrangersJournal(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	j, _ := open(t, audit.Config{KEK: kek})
	dead := func(cfg audit.Config) string {
		t.Helper()
		o, dir := open(t, cfg)
		record(t, o, reveal("r-1"))
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	copied := func(to, from string, names ...string) {
		t.Helper()
		for _, name := range names {
			data, err := os.ReadFile(filepath.Join(from, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(to, name), data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	stranger := dead(audit.Config{KEK: cryptotest.NewKEK()})
	if o, err := j.Adopt(stranger, time.Nanosecond); o != nil || !errors.Is(err, audit.ErrKEK) {
		t.Errorf("Adopt(a journal under another KEK) = %v, %v; want ErrKEK", o, err)
	}
	// A stranger's segment with the keys of a sibling, and its public key with the
	// stranger's.
	sibling := dead(audit.Config{KEK: kek})
	mixed := dead(audit.Config{KEK: cryptotest.NewKEK()})
	copied(mixed, sibling, "keys.json")
	if o, err := j.Adopt(mixed, time.Nanosecond); o != nil || err == nil {
		t.Errorf("Adopt(a stranger's segment under a sibling's keys) = %v, %v", o, err)
	}
	// A line that somebody put behind a sibling's last.
	forged := dead(audit.Config{KEK: kek})
	path := filepath.Join(forged, "00000001.jsonl")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimRight(data, "\x00\n"), []byte("\n"))
	n := len(lines)
	for _, line := range lines {
		if bytes.Contains(line, []byte(`"type":"reveal"`)) {
			lines = append(lines, line, line)
		}
	}
	out := append(bytes.Join(audit.Renumber(lines, n), []byte("\n")), '\n')
	if err := os.WriteFile(path, append(out, make([]byte, len(data)-len(out))...), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *audit.CorruptError
	if o, err := j.Adopt(forged, time.Nanosecond); o != nil || !errors.As(err, &damaged) {
		t.Errorf("Adopt(a forged tail) = %v, %v; want a CorruptError", o, err)
	}
	if n := len(types(t, j, audit.Adopted)); n != 0 {
		t.Errorf("%d adoptions are recorded, want none", n)
	}
	// The folder of a sibling is adopted, whatever its verifier.pub says.
	copied(sibling, stranger, "verifier.pub")
	o, err := j.Adopt(sibling, time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Release(); err != nil {
		t.Error(err)
	}
}
