// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/crypto/cryptotest"
)

func testKeys(t testing.TB) *keys {
	t.Helper()
	kek := cryptotest.NewKEK()
	w, err := newKeys(kek)
	if err != nil {
		t.Fatal(err)
	}
	k, err := w.unwrap(kek)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A sealed detail opens as what it is, of whom it is, and nothing else.
func TestDetailKeysAndBindings(t *testing.T) {
	t.Parallel()
	k, other := testKeys(t), testKeys(t)
	const commitment, another = "2jmj7l5rSw0yVb_vlWAYkK_YBwk1Ld3vTqhWvHEWIvs", "3jmj7l5rSw0yVb_vlWAYkK_YBwk1Ld3vTqhWvHEWIvs"
	data, err := k.sealDetail("t-1", commitment, 7, make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.openDetail("t-1", commitment, data); err == nil || !strings.Contains(err.Error(), "commits to") {
		t.Errorf("opened as what its event does not commit to: %v", err)
	}
	sealed := "does not open" // and not: opens, and is not what was committed to
	for name, open := range map[string]func() ([]byte, error){
		"another event's":   func() ([]byte, error) { return k.openDetail("t-1", another, data) },
		"another tenant's":  func() ([]byte, error) { return k.openDetail("t-2", commitment, data) },
		"another journal's": func() ([]byte, error) { return other.openDetail("t-1", commitment, data) },
		"another sequence's": func() ([]byte, error) {
			changed := bytes.Clone(data)
			changed[12]++
			return k.openDetail("t-1", commitment, changed)
		},
	} {
		if _, err := open(); err == nil || !strings.Contains(err.Error(), sealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, err := k.detailCipher("t-1", 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.detailCipher("t-2", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(nil, nil, a.Seal(nil, nil, []byte("x"), nil), nil); err == nil {
		t.Error("two tenants have one key")
	}
	for _, version := range []uint32{0, 2, 1 << 31} {
		if _, err := k.detailCipher("t-1", version); err == nil {
			t.Errorf("there is a key of version %d", version)
		}
	}
}

func FuzzOpenDetail(f *testing.F) {
	k := testKeys(f)
	data, err := k.sealDetail("t-1", "x", 7, make([]byte, 64))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil), "")
	f.Add(data, "x")
	f.Add(data[:13], "2jmj7l5rSw0yVb_vlWAYkK_YBwk1Ld3vTqhWvHEWIvs")
	f.Fuzz(func(t *testing.T, data []byte, commitment string) {
		if plain, err := k.openDetail("t-1", commitment, data); err == nil {
			t.Errorf("opened: %q", plain)
		}
	})
}

// The writer of a key file comes into lines, where a journal is adopted.
func TestAKeyFileOfNobody(t *testing.T) {
	t.Parallel()
	w, err := newKeys(cryptotest.NewKEK())
	if err != nil {
		t.Fatal(err)
	}
	for _, writer := range []string{w.Writer, "Jane Roe", "", "j", w.Writer + "0", strings.ToUpper(w.Writer), "j" + strings.Repeat("x", 32)} {
		bad := *w
		bad.Writer = writer
		data, err := json.Marshal(&bad)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, keysFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readKeys(dir); (err == nil) != (writer == w.Writer) {
			t.Errorf("writer %q: %v", writer, err)
		}
	}
}

// What this release did not write is not shown with a part of it left out.
func TestDecodeTakesNothingElse(t *testing.T) {
	t.Parallel()
	const good = `{"seq":7,"prev":"x","time":"2026-01-02T03:04:05.000006Z","type":"reveal","outcome":"success","crc":"01234567"}`
	s, err := decode("j1", []byte(good))
	if err != nil || s.ID != "j1.7" || s.Type != Revealed {
		t.Fatalf("decode = %+v, %v", s, err)
	}
	for name, line := range map[string]string{
		"a later member":          strings.Replace(good, `"outcome"`, `"mood":"fine","outcome"`, 1),
		"a later type":            strings.Replace(good, `"reveal"`, `"teleport"`, 1),
		"a later reason":          strings.Replace(good, `"outcome"`, `"reason":"Jane","outcome"`, 1),
		"a later member of actor": strings.Replace(good, `"outcome"`, `"actor":{"name":"Jane"},"outcome"`, 1),
		"more behind it":          good + `{"seq":8}`,
		"no type":                 strings.Replace(good, `"reveal"`, `""`, 1),
		"another time":            strings.Replace(good, `2026-01-02`, `Jan 2`, 1),
		"a malformed purge":       strings.Replace(good, `"outcome"`, `"purge":{"root":"x"},"outcome"`, 1),
		"a path for a detail":     strings.Replace(good, `"outcome"`, `"detail":"../../audit.kek","outcome"`, 1),
		"nothing":                 "",
		"no JSON":                 "Jane Roe",
	} {
		if s, err := decode("j1", []byte(line)); err == nil {
			t.Errorf("%s: %+v", name, s)
		} else if strings.Contains(err.Error(), "Jane") {
			t.Errorf("%s: the error repeats it: %v", name, err)
		}
	}
}

func FuzzPurgeRecord(f *testing.F) {
	k := testKeys(f)
	signed, err := k.signPurge(&PurgeRecord{Segments: 3, From: 0, Size: 9, Root: make([]byte, 32)}, time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	text, _, _ := strings.Cut(string(signed), "\n\n")
	f.Add(text + "\n")
	f.Add("")
	f.Add("x\n9\nAAAA\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parsePurge(text, k.origin)
		if err == nil && (r.Segments < 1 || r.From >= r.Size) {
			t.Errorf("%+v", r)
		}
	})
}

// Whatever reaches the encoder is in lines after finitely many of them, or
// refused: no event takes all the memory.
func TestAnEventTooLongIsRefused(t *testing.T) {
	t.Parallel()
	j, err := Open(filepath.Join(diskFolder(t), "audit"), Config{Development: true, SegmentSize: minSegment})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	s := Stored{Type: Revealed, Outcome: Success, Actor: access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: slices.Repeat([]string{strings.Repeat("x", 60)}, 2000)}}
	for range 100 {
		s.Objects = append(s.Objects, Object{Type: "patient", Record: "r-1", Patient: "r-1"})
	}
	if _, _, err := j.record(&s, nil); !errors.Is(err, ErrEvent) || errors.Is(err, ErrUnavailable) {
		t.Errorf("record = %v, want ErrEvent: the disk is not to blame", err)
	}
}
