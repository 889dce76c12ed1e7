// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// needles are what a caller may put anywhere by mistake or on purpose: names,
// numbers that somebody is known by, and text that would forge a line.
var needles = [...]string{
	"Jane Roe", "jane@example.org", "078-05-1120", "617-555-0199", "MRN-00123", "12 Elm Street", "Müller",
	`x","type":"forged`, "x\ny", "x\\", "\x00", "<b>", "{}", "",
}

// spoil sets every string inside v that can be set, one after the other, and
// every element of a slice of strings, calling try with the path of each.
func spoil(t *testing.T, v reflect.Value, path, text string, try func(path string)) {
	switch v.Kind() {
	case reflect.String:
		old := v.String()
		v.SetString(text)
		try(path)
		v.SetString(old)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() || v.Type() == reflect.TypeFor[netip.Addr]() {
			return // hold no text of the caller's but the zone, which has a test of its own
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				t.Fatalf("%s.%s is not exported: is it the caller's?", path, f.Name)
			}
			spoil(t, v.Field(i), path+"."+f.Name, text, try)
		}
	case reflect.Pointer:
		if v.IsNil() {
			t.Fatalf("%s is nil: the test has to fill it in", path)
		}
		spoil(t, v.Elem(), path, text, try)
	case reflect.Slice:
		if v.Len() == 0 {
			t.Fatalf("%s is empty: the test has to fill it in", path)
		}
		for i := range v.Len() {
			spoil(t, v.Index(i), path, text, try)
		}
	case reflect.Int, reflect.Int64, reflect.Bool:
	default: // a map, an interface, a function: no such thing is in an event
		t.Fatalf("%s is a %s, which may hold a caller's text", path, v.Kind())
	}
}

// full is an event in which every member is set.
func full() audit.Event {
	d := disclosed("r-1", "Recipient")
	return audit.Event{
		Type: audit.Disclosed, Outcome: audit.Success, Reason: audit.ReasonWritten, Action: access.Read, Code: access.AllowRule,
		Decision: "d-1", Count: 3, Citation: "164.512(i)", About: "j1.7", Rule: "bulk", User: "u-5", UserKind: access.Human,
		Since: time.Unix(1, 0), Until: time.Unix(2, 0), Detail: d.Detail,
		Disclosure: &audit.Disclosure{Basis: audit.ByResearch, Recipient: "university-1", Protocol: "irb-1", Frequency: audit.Monthly},
		Objects: []audit.Object{{Type: "patient", Tenant: "t-1", Record: "r-1", Patient: "r-1", Version: 2,
			Fields: []string{"name"}, Digests: []string{"0011223344556677"}}},
		Actor: principal(),
	}
}

func principal() access.Principal {
	return access.Principal{ID: "u-17", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}, Session: "s-1",
		OnBehalf: "u-3", Assurance: 2, AuthTime: time.Unix(3, 0), Addr: netip.MustParseAddr("192.0.2.7")}
}

// Every string that a caller can reach, by reflection over what Record, Attempt,
// access.With and WithRequestID take: a text either is refused, or does not come
// into a line. What is sealed is looked for in the whole folder.
func TestNoCallersTextComesIntoALine(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	tried, refused := map[string]bool{}, 0
	for _, text := range needles {
		if text == "" {
			continue
		}
		attack := func(path string, act func() error) {
			tried[path] = true
			if err := act(); err != nil {
				refused++
				if errors.Is(err, audit.ErrUnavailable) {
					t.Errorf("%s = %q: %v: the disk is not to blame", path, text, err)
				}
				for _, n := range needles[:7] {
					if strings.Contains(err.Error(), n) {
						t.Errorf("%s = %q: the error repeats it: %v", path, text, err)
					}
				}
			}
		}
		ev, p := full(), principal()
		ctx := access.With(t.Context(), principal(), access.Treatment)
		spoil(t, reflect.ValueOf(&ev).Elem(), "Event", text, func(path string) {
			attack(path, func() error { _, err := j.Record(ctx, ev); return err })
			attack(path+" of nobody", func() error { _, err := j.Record(t.Context(), ev); return err })
			write := ev
			if write.Type == audit.Disclosed {
				write.Type, write.Disclosure = audit.WriteAttempt, nil
			}
			attack(path+" of an attempt", func() error { _, err := j.Attempt(ctx, write); return err })
		})
		for _, kind := range []access.Kind{access.Human, access.Proxy, access.Service} {
			p.Kind = kind
			spoil(t, reflect.ValueOf(&p).Elem(), "Principal", text, func(path string) {
				attack(path, func() error {
					_, err := j.Record(access.With(t.Context(), p, access.Treatment), reveal("r-1"))
					return err
				})
			})
		}
		attack("purpose", func() error {
			_, err := j.Record(access.With(t.Context(), principal(), access.Purpose(text)), reveal("r-1"))
			return err
		})
		attack("request", func() error { _, err := j.Record(access.WithRequestID(ctx, text), reveal("r-1")); return err })
		attack("detail", func() error { _, err := j.Detail(ctx, text); return err })
		attack("release", func() error { return j.Release(ctx, text) })
		hold := audit.Hold{Patient: "r-1", Actor: "u-1", ActorKind: access.Human, Since: time.Unix(1, 0), Until: time.Unix(2, 0), Reason: audit.ReasonCourt, Citation: "164.512(e)"}
		spoil(t, reflect.ValueOf(&hold).Elem(), "Hold", text, func(path string) {
			attack(path, func() error { _, err := j.Hold(ctx, hold); return err })
		})
		erasure := audit.Erasure{Event: j.Writer() + ".1", Reason: audit.ReasonCourt, Citation: "164.512(e)"}
		spoil(t, reflect.ValueOf(&erasure).Elem(), "Erasure", text, func(path string) {
			attack(path, func() error { return j.Erase(ctx, erasure) })
		})
		attack("adopt", func() error {
			if _, err := j.Adopt(filepath.Join(t.TempDir(), text), time.Nanosecond); err != nil {
				return errors.New("refused") // the error names the folder
			}
			return nil
		})
		attack("settle", func() error {
			_, err := j.Commit(ctx, []audit.Ticket{{Attempt: text, Writer: text, Digest: []byte(text), MAC: []byte(text)}})
			return err
		})
	}
	if len(tried) < 90 || refused == 0 {
		t.Errorf("%d ways were tried, %d attacks refused", len(tried), refused)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	searched := append([]string{`"type":"forged`, "Recipient"}, needles[:7]...)
	noPHI(t, dir, searched...)
	files, err := filepath.Glob(filepath.Join(dir, "detail", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no detail was sealed: %v", err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		audittest.NoPHI(t, data, searched...)
	}
	if r := verify(t, dir); len(r.Defects) > 0 {
		t.Errorf("Verify: %+v", r.Defects)
	}
}

// The exported functions and types through which a caller's string could come
// into a line are those that the test above goes through: a new one has to be
// added there.
func TestEveryWayIntoALineIsAttacked(t *testing.T) {
	t.Parallel()
	attacked := map[string]bool{
		"Record": true, "Attempt": true, "Commit": true, "Rollback": true, "Detail": true, "Erase": true, "Hold": true,
		"Release": true, "Adopt": true, "RotateKeys": true, "Purge": true, // the last two take no string
	}
	reads := map[string]bool{ // these write nothing, or nothing of the caller's
		"Close": true, "Events": true, "Replay": true, "Read": true, "Issued": true, "Pseudonym": true, "Writer": true, "Ready": true,
		"Require": true, // its name is for people
	}
	typ := reflect.TypeFor[*audit.Journal]()
	for i := range typ.NumMethod() {
		m := typ.Method(i)
		if attacked[m.Name] || reads[m.Name] {
			continue
		}
		for n := 1; n < m.Type.NumIn(); n++ {
			if in := m.Type.In(n); in.Kind() != reflect.Interface && holdsText(in, 0) {
				t.Errorf("Journal.%s takes %s: attack it in TestNoCallersTextComesIntoALine", m.Name, in)
			}
		}
	}
}

// holdsText reports whether a caller can put text into a value of type t.
func holdsText(t reflect.Type, depth int) bool {
	switch t.Kind() {
	case reflect.String, reflect.Map, reflect.Interface:
		return true
	case reflect.Slice, reflect.Array, reflect.Pointer:
		return depth < 8 && holdsText(t.Elem(), depth+1)
	case reflect.Struct:
		for i := range t.NumField() {
			if depth < 8 && holdsText(t.Field(i).Type, depth+1) {
				return true
			}
		}
	}
	return false
}

// No commitment tells what it commits to: the salt is not in the folder.
func TestACommitmentCannotBeGuessed(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	seen := map[string]bool{}
	for range 20 {
		disclose(t, j, "r-1", "Jane Roe")
	}
	for _, s := range types(t, j, audit.Disclosed) {
		if b, err := base64.RawURLEncoding.DecodeString(s.Detail); err != nil || len(b) != 32 || seen[s.Detail] {
			t.Errorf("commitment %q", s.Detail)
		}
		seen[s.Detail] = true
	}
	sizes := map[int]bool{}
	for _, f := range detailFiles(t, dir) {
		data, err := os.ReadFile(f)
		if err != nil || bytes.Contains(data, []byte("Jane")) {
			t.Error("a detail is not sealed")
		}
		sizes[len(data)] = true
	}
	if len(seen) != 20 || len(sizes) != 1 {
		t.Errorf("%d commitments, %d sizes", len(seen), len(sizes))
	}
}
