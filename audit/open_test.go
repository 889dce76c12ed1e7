// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
)

var development = audit.Config{Development: true, SegmentSize: 256 << 10}

func TestOpenRefusesBadConfig(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]audit.Config{
		"KEK":             {},
		"SegmentSize":     {Development: true, SegmentSize: 100},
		"Timeout":         {Development: true, Timeout: -1},
		"CheckpointEvery": {Development: true, CheckpointEvery: time.Hour},
		"Node":            {Development: true, Node: "Jane's laptop"},
		"Deviations[0]":   {Development: true, Deviations: []access.Deviation{{}}},
		"Citation": {Development: true, Deviations: []access.Deviation{
			{Citation: "the law", Reason: "r", Alternative: "a", Owner: "o", ReviewBy: time.Now()}}},
	} {
		dir := filepath.Join(t.TempDir(), "audit")
		if _, err := audit.Open(dir, cfg); err == nil || !strings.Contains(err.Error(), "Config."+strings.TrimPrefix(field, "Config.")) && !strings.Contains(err.Error(), field) {
			t.Errorf("%s: Open = %v, want an error that names it", field, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the folder was made", field)
		}
	}
	if _, err := audit.Open("", development); !errors.Is(err, audit.ErrFolder) {
		t.Errorf("Open(no name) = %v, want ErrFolder", err)
	}
}

func TestOpenRefusesAFolderThatCannotHoldAJournal(t *testing.T) {
	t.Parallel()
	base := audittest.Dir(t)
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a file": file, "a folder in a file": filepath.Join(file, "audit")} {
		if _, err := audit.Open(dir, development); !errors.Is(err, audit.ErrFolder) {
			t.Errorf("Open(%s) = %v, want ErrFolder", name, err)
		}
	}
	if os.Geteuid() != 0 {
		closed := filepath.Join(base, "closed")
		if err := os.Mkdir(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Open(closed, development); !errors.Is(err, audit.ErrFolder) || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Open(not writable) = %v, want ErrFolder and ErrPermission", err)
		}
	}
	// What a reader of root's finds not writable: a system folder.
	if runtime.GOOS == "linux" {
		if _, err := audit.Open("/proc/self/audit", development); !errors.Is(err, audit.ErrFolder) {
			t.Errorf("Open(/proc) = %v, want ErrFolder", err)
		}
	}
}

func TestOpenRefusesMemory(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/dev/shm", "part164-*")
	if err != nil {
		t.Skip("no tmpfs at /dev/shm")
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	_, err = audit.Open(dir, development)
	if !errors.Is(err, audit.ErrFolder) || !strings.Contains(err.Error(), "tmpfs") {
		t.Errorf("Open(tmpfs) = %v, want ErrFolder that names it, in Development too", err)
	}
}

func TestOnlyOneWriterAFolder(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	_, err := audit.Open(dir, development)
	if !errors.Is(err, audit.ErrLocked) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("second Open = %v, want ErrLocked that names the process", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, dir, audit.Config{}).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenNeedsTheSameKEK(t *testing.T) {
	t.Parallel()
	base := audittest.Dir(t)
	kek := func(name string) *crypto.FileKEK {
		k, err := crypto.LocalKEK(filepath.Join(base, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Generate(); err != nil {
			t.Fatal(err)
		}
		return k
	}
	dir, cfg := filepath.Join(base, "audit"), audit.Config{KEK: kek("a"), Development: true, SegmentSize: 256 << 10}
	j, err := audit.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	pseudonym := j.Pseudonym("t-1", "r-1")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.KEK = kek("b")
	if _, err := audit.Open(dir, cfg); !errors.Is(err, audit.ErrKEK) {
		t.Errorf("Open(another KEK) = %v, want ErrKEK", err)
	}
	cfg.KEK = nil // in development: the file beside the folder, which was never made
	if _, err := audit.Open(dir, cfg); !errors.Is(err, audit.ErrKEK) {
		t.Errorf("Open(no key file) = %v, want ErrKEK", err)
	}
	if _, err := os.Stat(dir + ".kek"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a new KEK was made for keys that it cannot open")
	}
	if cfg.KEK, err = crypto.LocalKEK(filepath.Join(base, "gone")); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Open(dir, cfg); !errors.Is(err, audit.ErrKEK) || !errors.Is(err, crypto.ErrNoKeyFile) {
		t.Errorf("Open(a key file that is gone) = %v, want ErrKEK and ErrNoKeyFile", err)
	}
	if _, err := os.Stat(filepath.Join(base, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a new KEK was made where the old one is missing")
	}
	if cfg.KEK, err = crypto.LocalKEK(filepath.Join(base, "a")); err != nil {
		t.Fatal(err)
	}
	j, err = audit.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := j.Pseudonym("t-1", "r-1"); got != pseudonym || got == "" {
		t.Errorf("pseudonym %q after reopening, %q before", got, pseudonym)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefusesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"00000001.jsonl", "keys.json"} {
		dir := small(t)
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, name+".away")); err != nil {
			t.Fatal(err)
		}
		_, err := audit.Open(dir, development)
		var c *audit.CorruptError
		if !errors.As(err, &c) || c.File != name {
			t.Errorf("Open(%s is missing) = %v, want a CorruptError that names it", name, err)
		}
		if err := os.Rename(filepath.Join(dir, name+".away"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := reopen(t, dir, audit.Config{}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	dir := small(t)
	if err := os.WriteFile(filepath.Join(dir, "verifier.pub"), []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var c *audit.CorruptError
	if _, err := audit.Open(dir, development); !errors.As(err, &c) || c.File != "verifier.pub" {
		t.Errorf("Open(another public key) = %v, want a CorruptError", err)
	}
}

func TestOpenRefusesAFlippedByteAndNamesIt(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	data := append([]byte(nil), f.whole...)
	data[f.offset(6)+100] ^= 1
	if err := os.WriteFile(f.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := audit.Open(dir, development)
	var c *audit.CorruptError
	if !errors.As(err, &c) || c.File != "00000001.jsonl" || c.Offset != f.offset(6) || c.Seq != 6 {
		t.Errorf("Open = %v, want a CorruptError at sequence 6", err)
	}
	if after, err := os.ReadFile(f.path); err != nil || string(after) != string(data) {
		t.Error("Open changed a damaged segment")
	}
}

func TestARemovedSegmentStopsTheJournal(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be removed")
	}
	j, dir := open(t, audit.Config{CheckpointEvery: 5 * time.Millisecond})
	path := filepath.Join(dir, "00000001.jsonl")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	var err error
	for err == nil && time.Now().Before(deadline) {
		_, err = j.Record(treat(t), reveal("r-1"))
	}
	if !errors.Is(err, audit.ErrUnavailable) || !strings.Contains(err.Error(), "removed") {
		t.Fatalf("Record = %v, want ErrUnavailable that says the segment was removed", err)
	}
	if err := j.Close(); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Close = %v, want ErrUnavailable: the end could not be recorded", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, dir, audit.Config{}).Close(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); len(r.Defects) != 0 {
		t.Errorf("defects: %v", r.Defects)
	}
}

func TestDeviationsAreRecorded(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{Node: "node-1", Deviations: []access.Deviation{
		{Citation: "164.312(a)(2)(iv)", Reason: "St Mary's has no KMS", Alternative: "a", Owner: "Jane Roe", ReviewBy: time.Now()}}})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	events, err := audit.All(dir)
	if err != nil {
		t.Fatal(err)
	}
	var citations, reasons []string
	for _, ev := range events {
		if ev.Type == audit.Deviation {
			citations, reasons = append(citations, ev.Citation), append(reasons, string(ev.Reason))
		}
		if ev.Type == audit.Opened && ev.Node != "node-1" {
			t.Errorf("opened by node %q", ev.Node)
		}
	}
	if strings.Join(citations, ",") != "164.312(a)(2)(iv),164.312(a)(2)(iv)," || strings.Join(reasons, ",") != ",key.location,development" {
		t.Errorf("deviations %q, %q", citations, reasons)
	}
	noPHI(t, dir, "St Mary", "Jane Roe")
}

// noPHI searches every file of a folder.
func noPHI(t *testing.T, dir string, needles ...string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			audittest.NoPHI(t, data, needles...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNoPatientIsInTheJournalInClear(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	patient := access.Principal{ID: "patient-four-eyes", Tenant: "t-1", Kind: access.Patient, Session: "s-1", Addr: netip.MustParseAddr("203.0.113.77")}
	proxy := patient
	proxy.ID, proxy.Kind, proxy.OnBehalf, proxy.OnBehalfKind = "proxy-of-somebody", access.Proxy, "represented-by-proxy", access.Patient
	service := access.Principal{ID: "s-portal", Tenant: "t-1", Kind: access.Service, OnBehalf: "patient-of-a-service", OnBehalfKind: access.Patient}
	delegate := access.Principal{ID: "u-18", Tenant: "t-1", Kind: access.Human, OnBehalf: "proxy-of-a-delegate", OnBehalfKind: access.Proxy}
	ev := reveal("patient-four-eyes")
	ev.Objects = append(ev.Objects, audit.Object{Type: "note", Tenant: "t-1", Record: "note-of-somebody", Patient: "another-patient"})
	for _, p := range []access.Principal{nurse, patient, proxy, service, delegate} {
		if _, err := j.Record(access.With(t.Context(), p, access.Treatment), ev); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []access.Kind{access.Patient, access.Proxy} {
		alert := audit.Event{Type: audit.Alerted, Outcome: audit.Success, Rule: "self", User: "alerted-individual", UserKind: kind}
		if _, err := j.Record(treat(t), alert); err != nil {
			t.Fatal(err)
		}
	}
	in := audit.Event{Type: audit.SignIn, Outcome: audit.Success, Actor: patient}
	if _, err := j.Record(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	noPHI(t, dir, "patient-four-eyes", "proxy-of-somebody", "note-of-somebody", "another-patient", "203.0.113.77",
		"represented-by-proxy", "patient-of-a-service", "proxy-of-a-delegate", "alerted-individual")
	data, err := os.ReadFile(filepath.Join(dir, "00000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), j.Pseudonym("t-1", "patient-four-eyes")) {
		t.Error("the patient's pseudonym is not there either")
	}
	if j.Pseudonym("t-1", "r-1") == j.Pseudonym("t-2", "r-1") || j.Pseudonym("t-1", "r-1") == j.Pseudonym("t-1", "r-2") {
		t.Error("pseudonyms do not depend on tenant and ID")
	}
	if j.Pseudonym("t", "1r") == j.Pseudonym("t1", "r") {
		t.Error("tenant and ID run into each other")
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	clock := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	j, _ := open(t, audit.Config{CheckpointEvery: 20 * time.Millisecond, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		clock = clock.Add(time.Second)
		return clock
	}})
	var many []audit.Object
	for i := range 3000 {
		id := "r-" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		many = append(many, audit.Object{Type: "patient", Record: id, Patient: id, Fields: []string{"name"}})
	}
	list := audit.Event{Type: audit.Searched, Outcome: audit.Success, Objects: many}
	receipt, err := j.Record(treat(t), list)
	if err != nil {
		t.Fatal(err)
	}
	record(t, j, reveal("r-aaa"), reveal("r-xyz"))
	patient := access.Principal{ID: "r-aaa", Tenant: "t-1", Kind: access.Patient}
	if _, err := j.Record(access.With(t.Context(), patient, access.PatientRequest), reveal("r-aaa")); err != nil {
		t.Fatal(err)
	}
	other := access.Principal{ID: "u-2", Tenant: "t-2", Kind: access.Human}
	if _, err := j.Record(access.With(t.Context(), other, access.Treatment), reveal("r-aaa")); err != nil {
		t.Fatal(err)
	}
	for range 12 { // over several segments
		record(t, j, list)
	}
	collect := func(q audit.Query) (out []audit.Stored) {
		t.Helper()
		for ev, err := range j.Events(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, ev)
		}
		return out
	}
	got := collect(audit.Query{Tenant: "t-1", Patient: "r-aaa"})
	if len(got) != 15 {
		t.Fatalf("%d events about the patient, want 15", len(got))
	}
	for i, ev := range got {
		if len(ev.Objects) != 1 || ev.Objects[0].Patient != j.Pseudonym("t-1", "r-aaa") {
			t.Errorf("event %d shows %d objects", i, len(ev.Objects))
		}
		if i > 0 && ev.Seq >= got[i-1].Seq {
			t.Errorf("event %d is not older than the one before", i)
		}
	}
	oldest := got[len(got)-1]
	if oldest.ID != receipt.ID || oldest.Part != 1 || oldest.Parts != 3 || oldest.Batch != receipt.ID {
		t.Errorf("the batch: %+v", oldest)
	}
	if all := collect(audit.Query{Tenant: "t-1", Types: []audit.Type{audit.Searched}, Until: oldest.Time.Add(2500 * time.Millisecond)}); len(all) != 3 {
		t.Errorf("%d lines of the first batch", len(all))
	} else {
		n := 0
		for _, part := range all {
			n += len(part.Objects)
			if len(part.Objects) > 1024 || part.Batch != receipt.ID {
				t.Errorf("a line of %d objects, batch %s", len(part.Objects), part.Batch)
			}
		}
		if n != 3000 {
			t.Errorf("the batch names %d patients, want 3000", n)
		}
	}
	if got := collect(audit.Query{Tenant: "t-1", Actor: "r-aaa"}); len(got) != 1 || got[0].Actor.Kind != access.Patient || got[0].Actor.ID == "r-aaa" {
		t.Errorf("events by the patient: %+v", got)
	}
	if got := collect(audit.Query{Tenant: "t-2"}); len(got) != 1 || got[0].Actor.ID != "u-2" {
		t.Errorf("events of the other tenant: %d", len(got))
	}
	if got := collect(audit.Query{Tenant: "t-1", Limit: 2}); len(got) != 2 {
		t.Errorf("%d events, want the limit of 2", len(got))
	}
	for name, q := range map[string]audit.Query{"no tenant": {}, "negative limit": {Tenant: "t-1", Limit: -1}} {
		var last error
		for _, err := range j.Events(t.Context(), q) {
			last = err
		}
		if last == nil {
			t.Errorf("Events(%s) gives no error", name)
		}
	}
}

func TestConcurrentRecordAndClose(t *testing.T) {
	t.Parallel()
	for range 5 {
		j, dir := open(t, audit.Config{CheckpointEvery: time.Millisecond})
		ctx := treat(t)
		var wg sync.WaitGroup
		var mu sync.Mutex
		acked := make(map[string]bool)
		for range 8 {
			wg.Go(func() {
				for {
					receipt, err := j.Record(ctx, reveal("r-1"))
					if errors.Is(err, audit.ErrClosed) {
						return
					}
					if err != nil {
						t.Errorf("Record = %v", err)
						return
					}
					mu.Lock()
					acked[receipt.ID] = true
					mu.Unlock()
				}
			})
		}
		wg.Go(func() {
			for range 3 {
				for _, err := range j.Events(context.Background(), audit.Query{Tenant: "t-1", Limit: 10}) {
					if err != nil && !errors.Is(err, audit.ErrClosed) {
						t.Errorf("Events = %v", err)
					}
				}
			}
			if err := j.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
		})
		wg.Wait()
		events, err := audit.All(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			delete(acked, ev.ID)
		}
		if len(acked) > 0 {
			t.Errorf("%d acknowledged events are lost", len(acked))
		}
		if r := verify(t, dir); len(r.Defects) > 0 || r.Unsigned > 0 {
			t.Errorf("after Close: %+v", r)
		}
	}
}

func TestRecordTakesNoCallersText(t *testing.T) {
	t.Parallel()
	j, _ := open(t, audit.Config{})
	zone, err := netip.ParseAddr(`fe80::1%","type":"forged`)
	if err != nil {
		t.Fatal(err)
	}
	p := nurse
	p.Addr = zone
	if _, err := j.Record(access.With(t.Context(), p, access.Treatment), reveal("r-1")); err != nil {
		t.Fatal(err)
	}
	for ev, err := range j.Events(t.Context(), audit.Query{Tenant: "t-1"}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Actor.Addr.Zone() != "" || ev.Type != audit.Revealed {
			t.Errorf("kept %+v", ev)
		}
	}
	p = nurse
	p.Session = "Jane Roe's session"
	if _, err := j.Record(access.With(t.Context(), p, access.Treatment), reveal("r-1")); !errors.Is(err, audit.ErrEvent) {
		t.Errorf("Record(free text as session) = %v, want ErrEvent", err)
	}
}

func TestOpenFinishesAJournalThatWasBeingMade(t *testing.T) {
	t.Parallel()
	for _, segment := range []bool{true, false} {
		dir := small(t)
		if err := os.Rename(filepath.Join(dir, "keys.json"), filepath.Join(dir, "keys.json.new")); err != nil {
			t.Fatal(err)
		}
		if !segment {
			if err := os.Remove(filepath.Join(dir, "00000001.jsonl")); err != nil {
				t.Fatal(err)
			}
		}
		if err := reopen(t, dir, audit.Config{}).Close(); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, dir); len(r.Defects) != 0 {
			t.Errorf("segment %v: %v", segment, r.Defects)
		}
		if _, err := os.Stat(filepath.Join(dir, "keys.json")); err != nil {
			t.Error(err)
		}
	}
}
