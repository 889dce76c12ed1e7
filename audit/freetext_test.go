// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// needles are what a caller may put anywhere by mistake or on purpose: names,
// numbers that somebody is known by, also in the alphabet of an ID, and text
// that would forge a line. forgeries are those of the last kind.
var (
	needles = [...]string{
		"Jane Roe", "jane@example.org", "12 Elm Street", "Müller", "078-05-1120", "617-555-0199", "MRN-00123", "ssn:078:05:1120", "tel:6175550199",
		"medrec-0012345", "roe-1971-03-14", "1.617.555.0199x", "078051120", "1.1(Jane)(Roe)(HIV)", "617.555(0199)",
	}
	forgeries = [...]string{`x","type":"forged`, "x\ny", "x\\", "\x00", "<b>", "{}", "\x1b[2J", "x\u202e"}
)

// spoil sets every string inside v that can be set, one after the other, and
// every element of a slice of strings, to what text returns for its path, and
// then calls try.
func spoil(t *testing.T, v reflect.Value, path string, text func(path string) string, try func(path string)) {
	switch v.Kind() {
	case reflect.String:
		old := v.String()
		v.SetString(text(path))
		try(path)
		v.SetString(old)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() || v.Type() == reflect.TypeFor[netip.Addr]() {
			return // hold no text of the caller's but the zone, which has a test of its own
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				t.Errorf("%s.%s is not exported: is it the caller's?", path, f.Name)
				continue
			}
			spoil(t, v.Field(i), path+"."+f.Name, text, try)
		}
	case reflect.Pointer:
		if v.IsNil() {
			t.Errorf("%s is nil: the test has to fill it in", path)
			return
		}
		spoil(t, v.Elem(), path, text, try)
	case reflect.Slice:
		if v.Len() == 0 {
			t.Errorf("%s is empty: the test has to fill it in", path)
		}
		for i := range v.Len() {
			spoil(t, v.Index(i), path, text, try)
		}
	case reflect.Int, reflect.Int64, reflect.Bool:
	default: // a map, an interface, a function: no such thing is in an event
		t.Errorf("%s is a %s, which may hold a caller's text", path, v.Kind())
	}
}

// full is an event in which every member is set.
func full() audit.Event {
	d := disclosed("r-1", "Recipient")
	return audit.Event{
		Type: audit.Disclosed, Outcome: audit.Success, Reason: audit.ReasonWritten, Action: access.Read, Code: access.AllowRule,
		Decision: "0123456789abcdef0123456789abcdef", Count: 3, Citation: "164.512(i)", About: "j0123456789abcdef0123456789abcdef.7", Rule: "bulk", Grant: "0190163d-8694-739b-aea5-966c26f8ad90", Role: "records-clerk", User: "u-5", UserKind: access.Human,
		Since: time.Unix(1, 0), Until: time.Unix(2, 0), Detail: d.Detail,
		Disclosure: &audit.Disclosure{Basis: audit.ByResearch, Recipient: "university-1", Protocol: "irb-1", Frequency: audit.Monthly},
		Objects: []audit.Object{{Type: "patient", Tenant: "t-1", Record: "r-1", Patient: "r-1", Version: 2,
			Fields: []string{"name"}, Digests: []string{"0011223344556677"}}},
		Actor: principal(),
	}
}

func principal() access.Principal {
	return access.Principal{ID: "u-17", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}, Purposes: []access.Purpose{access.Treatment}, Session: "s-1",
		OnBehalf: "u-3", OnBehalfKind: access.Human, Assurance: 2, AuthTime: time.Unix(3, 0), Addr: netip.MustParseAddr("192.0.2.7")}
}

// everyWay puts what text returns into every string that a caller can reach, one
// after the other, by reflection over what Record, Attempt, access.With and
// WithRequestID take, and reports what came of it.
func everyWay(t *testing.T, j *audit.Journal, text func(path string) string, report func(path string, err error)) {
	t.Helper()
	ctx := access.With(t.Context(), principal(), access.Treatment)
	events := func(suffix string, record func(ev audit.Event) error) {
		ev := full()
		spoil(t, reflect.ValueOf(&ev).Elem(), "Event", func(path string) string { return text(path + suffix) },
			func(path string) { report(path+suffix, record(ev)) })
	}
	events("", func(ev audit.Event) error { _, err := j.Record(ctx, ev); return err })
	events(" of nobody", func(ev audit.Event) error { _, err := j.Record(t.Context(), ev); return err })
	events(" at sign-in", func(ev audit.Event) error {
		if ev.Type == audit.Disclosed {
			ev.Type, ev.Disclosure = audit.SignIn, nil
		}
		_, err := j.Record(t.Context(), ev)
		return err
	})
	events(" of an attempt", func(ev audit.Event) error {
		if ev.Type == audit.Disclosed {
			ev.Type, ev.Disclosure = audit.WriteAttempt, nil
		}
		_, err := j.Attempt(ctx, ev)
		return err
	})
	for _, kind := range []access.Kind{access.Human, access.Service, access.Patient, access.Proxy} {
		p, way := principal(), "Principal("+string(kind)+")"
		p.Kind = kind
		switch kind {
		case access.Patient:
			p.OnBehalf, p.OnBehalfKind = "", ""
		case access.Proxy, access.Service:
			p.OnBehalfKind = access.Patient
		}
		spoil(t, reflect.ValueOf(&p).Elem(), way, text, func(path string) {
			_, err := j.Record(access.With(t.Context(), p, access.Treatment), reveal("r-1"))
			report(path, err)
		})
	}
	try := func(path string, act func(s string) error) { report(path, act(text(path))) }
	try("purpose", func(s string) error {
		_, err := j.Record(access.With(t.Context(), principal(), access.Purpose(s)), reveal("r-1"))
		return err
	})
	try("request", func(s string) error { _, err := j.Record(access.WithRequestID(ctx, s), reveal("r-1")); return err })
	try("detail", func(s string) error { _, err := j.Detail(ctx, s); return err })
	try("release", func(s string) error { return j.Release(ctx, s) })
	try("adopt", func(s string) error {
		if _, err := j.Adopt(filepath.Join(t.TempDir(), s), time.Nanosecond); err != nil {
			return errors.New("refused") // the error names the folder
		}
		return nil
	})
	try("settle", func(s string) error {
		_, err := j.Commit(ctx, []audit.Ticket{{Attempt: s, Writer: s, Digest: []byte(s), MAC: []byte(s)}})
		return err
	})
	hold := audit.Hold{Patient: "r-1", Actor: "u-1", ActorKind: access.Human, Since: time.Unix(1, 0), Until: time.Unix(2, 0), Reason: audit.ReasonCourt, Citation: "164.512(e)"}
	spoil(t, reflect.ValueOf(&hold).Elem(), "Hold", text, func(path string) { _, err := j.Hold(ctx, hold); report(path, err) })
	erasure := audit.Erasure{Event: j.Writer() + ".1", Reason: audit.ReasonCourt, Citation: "164.512(e)"}
	spoil(t, reflect.ValueOf(&erasure).Elem(), "Erasure", text, func(path string) { report(path, j.Erase(ctx, erasure)) })
}

// What has the shape of what a person is known by, or would forge a line, is
// refused or does not come into a line, and no error repeats it. What is sealed
// is looked for in the whole folder.
func TestNoIdentifyingShapeComesIntoALine(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	tried, refused := map[string]bool{}, 0
	attack := func(text string) {
		everyWay(t, j, func(string) string { return text }, func(path string, err error) {
			mu.Lock()
			defer mu.Unlock()
			tried[path] = true
			if err == nil {
				return
			}
			refused++
			if errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("%s = %q: %v: the disk is not to blame", path, text, err)
			}
			for _, n := range needles {
				if strings.Contains(err.Error(), n) {
					t.Errorf("%s = %q: the error repeats it: %v", path, text, err)
				}
			}
		})
	}
	for _, text := range append(needles[:], forgeries[:]...) {
		wg.Go(func() { attack(text) }) // together: they share the syncs
	}
	wg.Wait()
	if len(tried) < 140 || refused < 1000 {
		t.Errorf("%d ways were tried, %d attacks refused", len(tried), refused)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	searched := append([]string{`"type":"forged`, "Recipient"}, needles[:]...)
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

// What is in the alphabet of an ID or a name can spell a name, and nobody can
// tell it from an opaque one. These are the only ways on which it comes into a
// line as it is: doc.go lists them. Everything else is out of a closed set, an
// ID that the module makes, a citation, or a pseudonym.
func TestWhatStandsInALineAsItWasGiven(t *testing.T) {
	t.Parallel()
	want := map[string]bool{"request": true, "Hold.Actor": true}
	for _, suffix := range []string{"", " of an attempt", " at sign-in"} {
		for _, f := range []string{"Action", "Rule", "Role", "User", "Objects.Type", "Objects.Tenant", "Objects.Fields"} {
			want["Event."+f+suffix] = true
		}
	}
	want["Event.Disclosure.Recipient"], want["Event.Disclosure.Protocol"] = true, true
	for _, f := range []string{"ID", "Tenant", "Roles", "Session", "OnBehalf"} {
		want["Event.Actor."+f+" at sign-in"] = true
		want["Principal(human)."+f] = true
		if f != "OnBehalf" { // of these it is a patient
			want["Principal(service)."+f] = true
			if f != "ID" {
				want["Principal(patient)."+f], want["Principal(proxy)."+f] = true, true
			}
		}
	}
	j, dir := open(t, audit.Config{})
	var paths []string
	everyWay(t, j, func(path string) string {
		paths = append(paths, path)
		return fmt.Sprintf("Jane_Roe_%d_x", len(paths)-1)
	}, func(string, error) {})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "00000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range paths {
		if got := bytes.Contains(data, fmt.Appendf(nil, "Jane_Roe_%d_x", i)); got != want[path] {
			t.Errorf("%s stands in a line as it was given: %v, want %v", path, got, want[path])
		}
		delete(want, path)
	}
	if len(want) > 0 {
		t.Errorf("these ways were not tried: %v", want)
	}
	// And all of it is of one alphabet, so that nothing else can be spelled.
	strange := regexp.MustCompile(`[^][{}":,A-Za-z0-9._()-]`)
	for _, line := range bytes.Split(bytes.TrimRight(data, "\x00\n"), []byte("\n")) {
		if at := strange.Find(line); at != nil && !bytes.Contains(line, []byte(`,"type":"checkpoint"`)) && !bytes.Contains(line, []byte(`,"type":"segment"`)) {
			t.Errorf("%q stands in a line: %s", at, line)
		}
	}
}

// attackedConfig are the fields of Config that hold text, and the test that
// attacks them; the others have none, or none that is written.
var attackedConfig = map[string]bool{"Node": true, "Clocks": true, "Deviations": true}

// What Config names comes into lines at Open.
func TestConfigPutsNoTextIntoALine(t *testing.T) {
	t.Parallel()
	apart := map[string]bool{"KEK": true, "Durability": true, "EmergencyOpen": true, "Disk": true, "Now": true, "Log": true} // of these nothing is written
	typ := reflect.TypeFor[audit.Config]()
	for i := range typ.NumField() {
		if f := typ.Field(i); holdsText(f.Type, 0) && !attackedConfig[f.Name] && !apart[f.Name] {
			t.Errorf("Config.%s holds text: attack it here", f.Name)
		}
	}
	deviation := access.Deviation{Citation: "164.312(b)", Reason: "r", Alternative: "a", Owner: "o", ReviewBy: time.Unix(1, 0)}
	clock := func(name string) []audit.Clock {
		return []audit.Clock{{Name: name, Now: func(context.Context) (time.Time, error) { return time.Unix(1, 0), nil }}}
	}
	for _, text := range append(needles[:], forgeries[:]...) {
		cited := deviation
		cited.Citation = text
		for field, cfg := range map[string]audit.Config{
			"Node": {Node: text}, "Clocks": {Clocks: clock(text)}, "Deviations": {Deviations: []access.Deviation{cited}},
		} {
			cfg.Development = true
			_, err := audit.Open(filepath.Join(audittest.Dir(t), "audit"), cfg)
			if err == nil || !strings.Contains(err.Error(), "Config."+field) || strings.Contains(err.Error(), text) {
				t.Errorf("Open(%s = %q) = %v", field, text, err)
			}
		}
	}
	deviation.Reason, deviation.Alternative, deviation.Owner = "because Jane Roe", "Jane Roe", "jane@example.org"
	j, dir := open(t, audit.Config{Node: "node-7", Clocks: clock("database"), Deviations: []access.Deviation{deviation}})
	waitFor(t, func() bool { return len(ofType(t, dir, audit.ClockOff)) > 0 })
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	noPHI(t, dir, needles[:]...)
	data, err := os.ReadFile(filepath.Join(dir, "00000001.jsonl"))
	if err != nil || !bytes.Contains(data, []byte(`"node":"node-7"`)) || !bytes.Contains(data, []byte(`"node":"database"`)) {
		t.Errorf("the names of the node and the clock are not there: %v", err)
	}
}

// The exported functions and types through which a caller's string could come
// into a line are those that everyWay goes through: a new one has to be added
// there. The other packages write through them: the names of sinks and their
// recipients as Event.Rule and Event.Disclosure, whoever runs auditctl as a
// principal.
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
				t.Errorf("Journal.%s takes %s: attack it in everyWay", m.Name, in)
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
