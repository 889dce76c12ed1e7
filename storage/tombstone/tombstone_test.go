// SPDX-License-Identifier: Apache-2.0

package tombstone

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func entry(n uint64) Entry {
	return Entry{Database: "d", Count: n, Subject: bytes.Repeat([]byte{byte(n)}, 32), Time: time.Unix(int64(n), 0).UTC(), MAC: bytes.Repeat([]byte{7}, 32)}
}

func TestACrashInAppendLosesNoOtherEntry(t *testing.T) {
	t.Parallel()
	whole := append([]byte{'\n'}, must(t, entry(2))...)
	for cut := range len(whole) {
		path := filepath.Join(t.TempDir(), "tombstones")
		l := File(path)
		if err := l.Append(t.Context(), entry(1)); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(whole[:cut]); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if err := l.Append(t.Context(), entry(3)); err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for e, err := range l.Entries(t.Context()) {
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			got = append(got, e.Count)
		}
		if len(got) != 2 || got[0] != 1 || got[1] != 3 {
			t.Errorf("cut at %d: entries %v, want 1 and 3", cut, got)
		}
	}
}

func TestAFileThatIsNoLogIsAnError(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"an unknown field": `{"database":"d","count":1,"subject":"AA==","time":"2026-01-02T00:00:00Z","mac":"AA==","more":1}`,
		"no count":         `{"database":"d","subject":"AA==","time":"2026-01-02T00:00:00Z","mac":"AA=="}`,
		"no subject":       `{"database":"d","count":1,"time":"2026-01-02T00:00:00Z","mac":"AA=="}`,
		"a long line":      strings.Repeat("x", 2*maxLine),
	} {
		path := filepath.Join(t.TempDir(), "tombstones")
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var bad error
		for _, err := range File(path).Entries(t.Context()) {
			bad = err
		}
		if bad == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func must(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzParse: what parses is written back as an equal entry.
func FuzzParse(f *testing.F) {
	seed, err := json.Marshal(entry(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parse(line)
		if err != nil {
			return
		}
		again, err := parse(must(t, e))
		if err != nil || again.Count != e.Count || again.Database != e.Database || !bytes.Equal(again.Subject, e.Subject) || !again.Time.Equal(e.Time) {
			t.Errorf("%q parses as %v and %v (%v)", line, e, again, err)
		}
	})
}
