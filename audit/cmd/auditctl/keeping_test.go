// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// keeping returns a journal with a disclosure of seven years ago that has a
// detail, its ID, and the flags that open it.
func keeping(t *testing.T) (dir, event string, keyed []string) {
	t.Helper()
	dir = filepath.Join(audittest.Dir(t), "audit")
	now := time.Now().AddDate(-7, 0, 0)
	j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
	receipt, err := j.Record(ctx, audit.Event{
		Type: audit.Disclosed, Outcome: audit.Success, Objects: []audit.Object{{Type: "patient", Record: "r-1", Patient: "r-1"}},
		Disclosure: &audit.Disclosure{Basis: audit.ByLaw, Recipient: "court-1"}, Detail: &audit.Detail{Recipient: "Jane Roe"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var objects []audit.Object
	for range 1000 {
		objects = append(objects, audit.Object{Type: "patient", Record: "r-1", Patient: "r-1"})
	}
	for range 5 { // more than a segment
		if _, err := j.Record(ctx, audit.Event{Type: audit.Searched, Outcome: audit.Success, Objects: objects}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, receipt.ID, []string{"--kek", dir + ".kek", "--tenant", "t-1", "--purpose", "HCOMPL"}
}

// recorded returns the events of a type, oldest first.
func recorded(t *testing.T, dir string, typ audit.Type) (out []audit.Line) {
	t.Helper()
	for l, err := range audit.Read(t.Context(), dir, audit.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Type == typ {
			out = append(out, l)
		}
	}
	return out
}

func TestDetailIsOpenedOnTheRecord(t *testing.T) {
	t.Parallel()
	dir, event, keyed := keeping(t)
	for _, args := range [][]string{
		{"detail", dir, event}, append([]string{"detail", dir}, keyed...), append([]string{"detail", dir, event + "0"}, keyed...),
		{"detail", dir, event, "--kek", dir + ".kek", "--tenant", "t-1"}, {"detail", dir, event, "--kek", dir + ".kek", "--purpose", "HCOMPL"},
		{"detail", dir, event, "--kek", dir + ".kek", "--tenant", "t-2", "--purpose", "HCOMPL"},
		append([]string{"detail", dir, event, "--early"}, keyed...), append([]string{"detail", dir, event, "--erase", "whim"}, keyed...),
	} {
		if code, out, errs := ctl(t, args...); code != exitCannotRun || out != "" || errs == "" {
			t.Errorf("%v: exit %d, %q, %q", args, code, out, errs)
		}
	}
	if n := len(recorded(t, dir, audit.DetailOpened)); n != 0 {
		t.Errorf("%d openings are recorded before the first", n)
	}
	code, out, errs := ctl(t, append([]string{"detail", dir, event}, keyed...)...)
	if code != exitOK || out != "recipient    \"Jane Roe\"\n" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	opened := recorded(t, dir, audit.DetailOpened)
	if len(opened) != 1 || opened[0].About != event || !strings.HasPrefix(opened[0].Actor.ID, "os:") || opened[0].Purpose != access.Compliance {
		t.Errorf("recorded %+v", opened)
	}
	if code, _, errs := ctl(t, append([]string{"detail", dir, event, "--erase", "court"}, keyed...)...); code != exitOK {
		t.Errorf("--erase: exit %d, %q", code, errs)
	}
	if code, out, _ := ctl(t, append([]string{"detail", dir, event}, keyed...)...); code != exitCannotRun || out != "" {
		t.Errorf("after --erase: exit %d, %q", code, out)
	}
	if code, out, _ := ctl(t, "verify", dir); code != exitOK {
		t.Errorf("verify: exit %d\n%s", code, out)
	}
}

func TestHoldKeepsFromPurge(t *testing.T) {
	t.Parallel()
	dir, _, keyed := keeping(t)
	run := func(args ...string) string {
		t.Helper()
		code, out, errs := ctl(t, append(args, keyed...)...)
		if code != exitOK {
			t.Fatalf("%v: exit %d, %q", args, code, errs)
		}
		return strings.TrimSpace(out)
	}
	for _, bad := range [][]string{
		{"hold", dir, "--patient", "r-1"}, {"hold", dir, "--reason", "whim", "--patient", "r-1"}, {"hold", dir, "--reason", "court"},
		{"hold", dir, "--reason", "court", "--since", "yesterday"}, {"hold", dir, "--release", "none"}, {"hold", dir, "--reason", "court", "--patient", "617-555-0199"},
		{"purge", dir, "--before", "soon"}, {"purge", dir, "--before", time.Now().AddDate(-5, 0, 0).Format(time.DateOnly)}, {"purge"},
	} {
		if code, out, errs := ctl(t, append(bad, keyed...)...); code != exitCannotRun || out != "" || errs == "" || strings.Contains(errs, "617-555") {
			t.Errorf("%v: exit %d, %q, %q", bad, code, out, errs)
		}
	}
	id := run("hold", dir, "--reason", "litigation", "--patient", "r-1", "--citation", "164.512(e)")
	if out := run("hold", dir); !strings.Contains(out, id) || !strings.Contains(out, "litigation") || strings.Contains(out, "r-1") {
		t.Errorf("hold lists %q", out)
	}
	if out := run("purge", dir); !strings.Contains(out, "nothing") {
		t.Errorf("purge under a hold: %q", out)
	}
	run("hold", dir, "--release", id)
	if out := run("hold", dir); out != "" {
		t.Errorf("after --release hold lists %q", out)
	}
	// A sink that has nothing yet holds it back too.
	if err := os.WriteFile(filepath.Join(dir, "sink-siem.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run("purge", dir); !strings.Contains(out, "nothing") {
		t.Errorf("purge before a sink has it: %q", out)
	}
	if err := os.Remove(filepath.Join(dir, "sink-siem.json")); err != nil {
		t.Fatal(err)
	}
	var r struct{ Segments, Size int }
	if code, _, text := ctl(t, append([]string{"purge", dir}, keyed...)...); code != exitCannotRun || !strings.Contains(text, "--clock-checked") {
		t.Errorf("purge of a journal that was not written to for years: exit %d, %q", code, text)
	}
	if out := run("purge", dir, "--json", "--clock-checked"); json.Unmarshal([]byte(out), &r) != nil || r.Segments != 1 || r.Size == 0 {
		t.Errorf("purge: %q", out)
	}
	if code, out, _ := ctl(t, "verify", dir); code != exitOK {
		t.Errorf("verify: exit %d\n%s", code, out)
	}
}

func TestKeysAreRotated(t *testing.T) {
	t.Parallel()
	dir, event, keyed := keeping(t)
	code, before, _ := ctl(t, "keys", dir)
	if code != exitOK || len(strings.Fields(before)) != 1 {
		t.Fatalf("exit %d, %q", code, before)
	}
	if code, _, _ := ctl(t, "keys", dir, "--rotate"); code != exitCannotRun {
		t.Errorf("--rotate without a KEK: exit %d", code)
	}
	code, after, errs := ctl(t, append([]string{"keys", dir, "--rotate"}, keyed...)...)
	if code != exitOK || len(strings.Fields(after)) != 2 || !strings.HasPrefix(after, before) {
		t.Fatalf("--rotate: exit %d, %q, %q", code, after, errs)
	}
	key := filepath.Join(t.TempDir(), "old.pub")
	if err := os.WriteFile(key, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := ctl(t, "verify", dir, "--pubkey", key); code != exitOK || !strings.Contains(out, "authenticity   key not given, but the one given signed for it") {
		t.Errorf("verify with the old key: exit %d\n%s", code, out)
	}
	if _, out, _ := ctl(t, "verify", dir, "--pubkey", key, "--json"); !strings.Contains(out, `"public_key_from": "rotation"`) {
		t.Errorf("verify with the old key: %s", out)
	}
	if code, out, _ := ctl(t, "verify", dir, "--pubkey", filepath.Join(dir, "verifier.pub")); code != exitOK || !strings.Contains(out, "authenticity   key given\n") {
		t.Errorf("verify with the new key: exit %d\n%s", code, out)
	}
	// A proof is checked with the key of the day before, too.
	proof := filepath.Join(t.TempDir(), "proof.json")
	code, text, errs := ctl(t, "prove", dir, event)
	if err := os.WriteFile(proof, []byte(text), 0o600); err != nil || code != exitOK {
		t.Fatal(err, errs)
	}
	if code, out, errs := ctl(t, "verify-proof", proof, "--pubkey", key); code != exitOK || !strings.Contains(out, "key        not the one given, which signed for it") {
		t.Errorf("verify-proof with the old key: exit %d\n%s%s", code, out, errs)
	}
	if code, out, errs := ctl(t, "verify-proof", proof, "--pubkey", filepath.Join(dir, "verifier.pub")); code != exitOK || strings.Contains(out, "key  ") {
		t.Errorf("verify-proof with the new key: exit %d\n%s%s", code, out, errs)
	}
	var keys struct {
		Keys []string `json:"public_keys"`
	}
	if _, out, _ := ctl(t, "keys", dir, "--json"); json.Unmarshal([]byte(out), &keys) != nil || len(keys.Keys) != 2 {
		t.Errorf("--json: %q", out)
	}
	segment := filepath.Join(dir, "00000001.jsonl")
	data, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.Index(data, []byte(`"search"`))+2] ^= 1
	if err := errors.Join(os.Chmod(segment, 0o600), os.WriteFile(segment, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := ctl(t, "verify", dir, "--pubkey", key); code != exitBroken || !strings.Contains(out, "authenticity   NOT THE KEY GIVEN: ") {
		t.Errorf("verify of a changed journal with the old key: exit %d\n%s", code, out)
	}
}
