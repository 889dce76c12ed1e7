// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// officer keeps the trail.
func officer(t testing.TB) context.Context {
	return access.With(t.Context(), access.Principal{ID: "u-9", Tenant: "t-1", Kind: access.Human}, access.Compliance)
}

// publicKeys returns the lines of a journal's verifier.pub.
func publicKeys(t testing.TB, dir string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// rotated returns the folder of a closed journal that was rotated twice, with
// a reveal of patient r-1 under each version, and a ticket of each.
func rotated(t testing.TB) (dir string, tickets []audit.Ticket) {
	t.Helper()
	j, dir := open(t, audit.Config{})
	for version := range 3 {
		if version > 0 {
			if err := j.RotateKeys(officer(t)); err != nil {
				t.Fatal(err)
			}
		}
		record(t, j, reveal("r-1"), reveal("r-2"))
		ticket, err := j.Attempt(treat(t), attempt("r-1"))
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, tickets
}

func TestRotateKeys(t *testing.T) {
	t.Parallel()
	dir, tickets := rotated(t)
	keys := publicKeys(t, dir)
	if len(keys) != 3 || keys[0] == keys[1] || keys[1] == keys[2] {
		t.Fatalf("verifier.pub has %d keys", len(keys))
	}
	for i, key := range append([]string{""}, keys...) {
		r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: key})
		if err != nil || len(r.Defects) > 0 {
			t.Errorf("Verify with key %d: %+v, %v", i, r.Defects, err)
		}
	}
	j := reopen(t, dir, audit.Config{})
	for _, ticket := range tickets {
		if !j.Issued(ticket) {
			t.Error("a ticket of an older key is not good any more")
		}
	}
	if refused, err := j.Commit(t.Context(), tickets); err != nil || len(refused) > 0 {
		t.Errorf("Commit(tickets of every version) = %d refused, %v", len(refused), err)
	}
	found := 0
	for s, err := range j.Events(t.Context(), audit.Query{Tenant: "t-1", Patient: "r-1", Types: []audit.Type{audit.Revealed}}) {
		if err != nil {
			t.Fatal(err)
		}
		if found++; len(s.Objects) != 1 || s.Objects[0].Patient != j.Pseudonym("t-1", "r-1") || s.Objects[0].Record != s.Objects[0].Patient {
			t.Errorf("found %+v", s)
		}
	}
	if found != 3 {
		t.Errorf("%d events of the patient are found, want those of 3 keys", found)
	}
	// In the lines themselves no two versions have a pseudonym in common.
	data, err := os.ReadFile(filepath.Join(dir, "00000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte(j.Pseudonym("t-1", "r-2"))); n != 2 { // record and patient of one reveal
		t.Errorf("the newest pseudonym stands %d times in the lines, want 2", n)
	}
	var seen []audit.Rotation
	for s, err := range j.Replay(t.Context(), "", audit.JournalKeyRotated) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Actor.ID != "u-9" || s.Rotation == nil {
			t.Fatalf("recorded %+v", s)
		}
		seen = append(seen, *s.Rotation)
	}
	if want := []audit.Rotation{{From: keys[1], To: keys[2]}, {From: keys[0], To: keys[1]}}; !slices.Equal(seen, want) {
		t.Errorf("rotations recorded: %v", seen)
	}
}

func TestRotateKeysNeedsAPrincipalAndAnOpenJournal(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	if err := j.RotateKeys(t.Context()); !errors.Is(err, access.ErrNoPrincipal) {
		t.Errorf("RotateKeys(nobody) = %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.RotateKeys(officer(t)); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("RotateKeys(closed) = %v", err)
	}
	if n := len(publicKeys(t, dir)); n != 1 {
		t.Errorf("%d keys after no rotation", n)
	}
}

// What a crash may leave of a rotation is finished by the next Open.
func TestARotationThatACrashCutShort(t *testing.T) {
	t.Parallel()
	dir, _ := rotated(t)
	f := takeApart(t, dir)
	at := slices.IndexFunc(f.lines, func(l []byte) bool { return bytes.Contains(l, []byte(`"type":"journal.key.rotated"`)) })
	second := at + 1 + slices.IndexFunc(f.lines[at+1:], func(l []byte) bool { return bytes.Contains(l, []byte(`"type":"journal.key.rotated"`)) })
	keys := publicKeys(t, dir)
	for name, tt := range map[string]struct {
		lines, keys, want int
	}{
		"before its event":                         {second, 2, 2},
		"behind its event, before its checkpoint":  {second + 1, 2, 2}, // nobody was told
		"behind its checkpoint, before its key":    {second + 2, 2, 3},
		"behind everything":                        {second + 2, 3, 3},
		"before the first, with two keys too many": {at, 1, 1},
	} {
		f.write(t, f.lines[:tt.lines])
		if err := os.WriteFile(filepath.Join(dir, "verifier.pub"), []byte(strings.Join(keys[:tt.keys], "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			j, err := audit.Open(dir, development)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			record(t, j, reveal("r-1"))
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			for _, key := range publicKeys(t, dir) {
				r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: key})
				if err != nil || len(r.Defects) > 0 {
					t.Errorf("%s: Verify: %+v, %v", name, r.Defects, err)
				}
			}
			if n := len(publicKeys(t, dir)); n != tt.want {
				t.Errorf("%s: %d keys, want %d", name, n, tt.want)
			}
		}
		j, err := audit.Open(dir, development)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.RotateKeys(officer(t)); err != nil { // and it can be done again
			t.Errorf("%s: RotateKeys: %v", name, err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, dir); len(r.Defects) > 0 {
			t.Errorf("%s: after another rotation: %+v", name, r.Defects)
		}
		// The keys that were made meanwhile are not those of f's lines.
		f.write(t, f.lines)
		dir, _ = rotated(t)
		f, keys = takeApart(t, dir), publicKeys(t, dir)
	}
}

// Whoever has the folder and no key cannot go on under a key of their own.
func TestVerifyFindsAForgedRotation(t *testing.T) {
	t.Parallel()
	dir, _ := rotated(t)
	other, _ := rotated(t)
	keys, theirs := publicKeys(t, dir), publicKeys(t, other)
	f := takeApart(t, dir)
	at := slices.IndexFunc(f.lines, func(l []byte) bool { return bytes.Contains(l, []byte(`"type":"journal.key.rotated"`)) })
	edit := func(i int, change func(string) string) [][]byte {
		lines := slices.Clone(f.lines)
		changed := audit.Rechecksum([]byte(change(string(lines[i]))))
		if bytes.Equal(changed, lines[i]) {
			t.Fatal("nothing was changed")
		}
		lines[i] = changed
		return audit.Rechain(lines, i+1)
	}
	first := func(s string) string { // without the first signature
		i := strings.Index(s, `\n— `)
		return s[:i] + s[strings.LastIndex(s, `\n— `):]
	}
	last := func(s string) string {
		i := strings.LastIndex(s, `\n— `)
		return s[:i] + s[strings.LastIndex(s, `\n"`):]
	}
	second := at + 1 + slices.IndexFunc(f.lines[at+1:], func(l []byte) bool { return bytes.Contains(l, []byte(`"type":"journal.key.rotated"`)) })
	forged, own := audit.ForgeRotation(t, f.lines[:second], at, keys[0])
	for name, tt := range map[string]struct {
		lines [][]byte
		keys  []string
	}{
		"by somebody with a key of their own": {forged, []string{keys[0], own}},
		"to another key":                      {edit(at, func(s string) string { return strings.ReplaceAll(s, keys[1], theirs[1]) }), keys},
		"from another key":                    {edit(at, func(s string) string { return strings.ReplaceAll(s, keys[0], keys[2]) }), keys},
		"without the old signature":           {edit(at+1, first), keys},
		"without the new signature":           {edit(at+1, last), keys},
		"without the event":                   {audit.Renumber(slices.Delete(slices.Clone(f.lines), at, at+1), at), keys},
		"and the key file is another's":       {f.lines, theirs},
		"and the key file has one less":       {f.lines, nil},
		"and the newest key is not that":      {f.lines, []string{keys[0], keys[1], theirs[2]}},
	} {
		t.Run(name, func(t *testing.T) {
			f.write(t, tt.lines)
			text := strings.Join(tt.keys, "\n") + "\n"
			if tt.keys == nil {
				text = strings.Join(keys[1:], "\n") + "\n"
			}
			if err := os.WriteFile(filepath.Join(dir, "verifier.pub"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for i, key := range []string{keys[0], keys[2]} {
				r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: key})
				if err != nil || len(r.Defects) == 0 {
					t.Errorf("Verify with key %d finds nothing (%v)", i, err)
				}
			}
		})
	}
}

// A journal that ends before the key that was given was in use lacks its end.
func TestVerifyFindsThatTheGivenKeyIsMissing(t *testing.T) {
	t.Parallel()
	dir, _ := rotated(t)
	keys := publicKeys(t, dir)
	f := takeApart(t, dir)
	at := slices.IndexFunc(f.lines, func(l []byte) bool { return bytes.Contains(l, []byte(`"type":"journal.key.rotated"`)) })
	f.write(t, f.lines[:at])
	r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: keys[2]})
	if err != nil || len(r.Defects) != 1 || r.Defects[0].File != "verifier.pub" {
		t.Errorf("Verify = %+v, %v", r.Defects, err)
	}
}

func TestRotateWhileOthersWrite(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 5 {
			if err := j.RotateKeys(officer(t)); err != nil {
				t.Errorf("RotateKeys: %v", err)
			}
		}
	}()
	n := 0
	for ended := false; !ended; n++ {
		record(t, j, reveal("r-1"))
		select {
		case <-done:
			ended = true
		default:
		}
	}
	found := 0
	for _, err := range j.Events(t.Context(), audit.Query{Tenant: "t-1", Patient: "r-1"}) {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found != n {
		t.Errorf("%d of %d events are found", found, n)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); len(r.Defects) > 0 || len(publicKeys(t, dir)) != 6 {
		t.Errorf("Verify: %+v", r.Defects)
	}
}

// A journal that was rotated is adopted, and restored from its remote, as any
// other.
func TestARotatedJournalIsAdopted(t *testing.T) {
	t.Parallel()
	dir, _ := rotated(t)
	kek, err := crypto.LocalKEK(dir + ".kek")
	if err != nil {
		t.Fatal(err)
	}
	j, _ := open(t, audit.Config{KEK: kek})
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "00000001.jsonl"), old, old); err != nil {
		t.Fatal(err)
	}
	o, err := j.Adopt(dir, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Release(); err != nil {
		t.Error(err)
	}
}

func TestARotatedJournalIsRestored(t *testing.T) {
	t.Parallel()
	kek, sink := cryptotest.NewKEK(), &remote{}
	cfg := audit.Config{KEK: kek, Durability: sink, SegmentSize: 256 << 10, Development: true}
	dir := filepath.Join(audittest.Dir(t), "audit")
	j, err := audit.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		record(t, j, reveal("r-1"))
		if err := j.RotateKeys(officer(t)); err != nil {
			t.Fatal(err)
		}
	}
	record(t, j, reveal("r-1"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	keys := publicKeys(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := audit.Restore(dir, sink.all()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, key := range keys {
			if r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: key}); err != nil || len(r.Defects) > 0 {
				t.Errorf("Verify: %+v, %v", r.Defects, err)
			}
		}
		if j, err = audit.Open(dir, cfg); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range j.Events(t.Context(), audit.Query{Tenant: "t-1", Patient: "r-1"}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 3 {
			t.Errorf("%d events of the patient are found, want 3", n)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
