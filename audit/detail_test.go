// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// disclosed is a disclosure with a detail that identifies.
func disclosed(patient, recipient string) audit.Event {
	return audit.Event{
		Type: audit.Disclosed, Outcome: audit.Success,
		Objects:    []audit.Object{{Type: "patient", Record: patient, Patient: patient, Fields: []string{"name"}}},
		Disclosure: &audit.Disclosure{Basis: audit.ByJudicial, Recipient: "court-1"},
		Detail:     &audit.Detail{Recipient: recipient, Address: "12 Elm Street", Description: "visit notes", Statement: "subpoena of \"3 May\"\n"},
	}
}

func disclose(t testing.TB, j *audit.Journal, patient, recipient string) string {
	t.Helper()
	receipt, err := j.Record(treat(t), disclosed(patient, recipient))
	if err != nil {
		t.Fatal(err)
	}
	return receipt.ID
}

// detailFiles returns the paths of the sealed details in a journal's folder.
func detailFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "detail", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func types(t testing.TB, j *audit.Journal, typ audit.Type) (out []audit.Stored) {
	t.Helper()
	for s, err := range j.Replay(t.Context(), "", typ) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	slices.Reverse(out)
	return out
}

func TestDetailIsSealed(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	id := disclose(t, j, "r-1", "Jane Roe")
	if err := j.RotateKeys(officer(t)); err != nil {
		t.Fatal(err)
	}
	later := disclose(t, j, "r-2", "Jim Poe")
	for range 2 {
		noPHI(t, dir, "Jane Roe", "Jim Poe", "12 Elm Street", "subpoena", "visit notes")
		for id, name := range map[string]string{id: "Jane Roe", later: "Jim Poe"} {
			before := len(types(t, j, audit.DetailOpened))
			d, err := j.Detail(officer(t), id)
			if want := disclosed("", name).Detail; err != nil || d != *want {
				t.Errorf("Detail = %+v, %v", d, err)
			}
			opened := types(t, j, audit.DetailOpened)
			if len(opened) != before+1 || opened[before].About != id || opened[before].Actor.ID != "u-9" || opened[before].Purpose != access.Compliance {
				t.Errorf("recorded %+v", opened)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, dir); len(r.Defects) > 0 {
			t.Errorf("Verify: %+v", r.Defects)
		}
		j = reopen(t, dir, audit.Config{})
	}
	for _, f := range detailFiles(t, dir) {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 || filepath.Ext(f) != "" {
			t.Errorf("%s: %v, %v", f, info, err)
		}
	}
	if n := len(detailFiles(t, dir)); n != 2 {
		t.Errorf("%d details are there, want 2", n)
	}
}

func TestDetailIsRefused(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	id := disclose(t, j, "r-1", "Jane Roe")
	plain, err := j.Record(treat(t), reveal("r-1"))
	if err != nil {
		t.Fatal(err)
	}
	other := access.With(t.Context(), access.Principal{ID: "u-9", Tenant: "t-2", Kind: access.Human}, access.Compliance)
	if _, err := j.Detail(other, id); !errors.Is(err, audit.ErrNoDetail) {
		t.Errorf("Detail(another tenant) = %v", err)
	}
	for event, want := range map[string]error{
		plain.ID:                              audit.ErrNoDetail,
		id + "0":                              audit.ErrNoDetail,
		"j0123456789abcdef0123456789abcdef.6": audit.ErrNoDetail,
		"x" + strings.TrimLeft(id, "j"):       audit.ErrEvent,
		strings.Replace(id, ".", ".0", 1):     audit.ErrEvent,
		id + ".1":                             audit.ErrEvent,
	} {
		if _, err := j.Detail(officer(t), event); !errors.Is(err, want) {
			t.Errorf("Detail(%s) = %v, want %v", event, err, want)
		}
	}
	if _, err := j.Detail(t.Context(), id); !errors.Is(err, access.ErrNoPrincipal) {
		t.Errorf("Detail(nobody) = %v", err)
	}
	if _, err := j.Detail(access.With(t.Context(), nurse, ""), id); !errors.Is(err, access.ErrNoPurpose) {
		t.Errorf("Detail(no purpose) = %v", err)
	}
	if _, err := j.Detail(officer(t), "Jane Roe"); !errors.Is(err, audit.ErrEvent) {
		t.Errorf("Detail(free text) = %v", err)
	}
	if n := len(types(t, j, audit.DetailOpened)); n != 0 {
		t.Errorf("%d openings of nothing are recorded", n)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err := j.Detail(officer(t), id); !errors.Is(err, audit.ErrClosed) || d != (audit.Detail{}) {
		t.Errorf("Detail(closed) = %+v, %v", d, err)
	}
	_ = dir
}

// Whoever can write to the folder cannot change, swap or replay a detail.
func TestAChangedDetailDoesNotOpen(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	id := disclose(t, j, "r-1", "Jane Roe")
	file := detailFiles(t, dir)[0]
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	disclose(t, j, "r-1", "Jim Poe")
	foreign, theirs := open(t, audit.Config{})
	disclose(t, foreign, "r-1", "Jane Roe")
	put := func(data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bad := map[string][]byte{"empty": nil, "cut": good[:len(good)-1], "header only": good[:13], "longer": append(slices.Clone(good), 0)}
	for i := range good {
		changed := slices.Clone(good)
		changed[i] ^= 0x10
		bad["byte "+strconv.Itoa(i)] = changed
	}
	for _, f := range append(detailFiles(t, dir), detailFiles(t, theirs)...) {
		if data, err := os.ReadFile(f); err != nil {
			t.Fatal(err)
		} else if !bytes.Equal(data, good) {
			bad["another's "+f] = data
		}
	}
	for name, data := range bad {
		put(data)
		if d, err := j.Detail(officer(t), id); err == nil || d != (audit.Detail{}) {
			t.Errorf("%s: Detail = %+v, %v", name, d, err)
		}
	}
	put(good)
	if _, err := j.Detail(officer(t), id); err != nil {
		t.Error(err)
	}
}

// A crash between a detail and its line leaves a file that nothing refers to;
// one behind the line leaves a file with the wrong name.
func TestDetailsThatACrashLeft(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	id := disclose(t, j, "r-1", "Jane Roe")
	name := detailFiles(t, dir)[0]
	orphan, err := audit.SealOnly(j, &audit.Stored{Actor: nurse}, &audit.Detail{Recipient: "Jim Poe"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name, name+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "detail", "half.new.tmp"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := j.Detail(officer(t), id); err != nil || d.Recipient != "Jane Roe" {
		t.Errorf("Detail(under its first name) = %+v, %v", d, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, dir, audit.Config{})
	if files := detailFiles(t, dir); !slices.Equal(files, []string{name}) {
		t.Errorf("after Open there are %v; want %s, and not %s", files, name, orphan)
	}
	if d, err := j.Detail(officer(t), id); err != nil || d.Recipient != "Jane Roe" {
		t.Errorf("Detail = %+v, %v", d, err)
	}
}

// No event without its detail: where the detail is not durable, nothing is
// recorded.
func TestNoEventWithoutItsDetail(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	if err := os.WriteFile(filepath.Join(dir, "detail"), nil, 0o600); err != nil { // no folder can be made there
		t.Fatal(err)
	}
	if _, err := j.Record(treat(t), disclosed("r-1", "Jane Roe")); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Record = %v, want ErrUnavailable", err)
	}
	if n := len(types(t, j, audit.Disclosed)); n != 0 {
		t.Errorf("%d disclosures are recorded", n)
	}
	if err := os.Remove(filepath.Join(dir, "detail")); err != nil {
		t.Fatal(err)
	}
	disclose(t, j, "r-1", "Jane Roe")
}

func TestErase(t *testing.T) {
	t.Parallel()
	clock := new(wall)
	clock.set(-7 * 365 * 24 * time.Hour)
	j, dir := open(t, audit.Config{Now: clock.now})
	old := disclose(t, j, "r-1", "Jane Roe")
	held := disclose(t, j, "r-2", "Jim Poe")
	clock.set(0)
	young := disclose(t, j, "r-3", "Joe Low")
	hold, err := j.Hold(officer(t), audit.Hold{Patient: "r-2", Reason: audit.ReasonLitigation})
	if err != nil {
		t.Fatal(err)
	}
	erase := func(e audit.Erasure) error { return j.Erase(officer(t), e) }
	for name, tt := range map[string]struct {
		e    audit.Erasure
		want error
	}{
		"no reason":          {audit.Erasure{Event: old}, audit.ErrEvent},
		"another reason":     {audit.Erasure{Event: old, Reason: audit.ReasonLogout}, audit.ErrEvent},
		"free text":          {audit.Erasure{Event: "Jane Roe", Reason: audit.ReasonCourt}, audit.ErrEvent},
		"free citation":      {audit.Erasure{Event: old, Reason: audit.ReasonCourt, Citation: "Judge Roe"}, audit.ErrEvent},
		"an unknown event":   {audit.Erasure{Event: old + "7", Reason: audit.ReasonCourt}, audit.ErrNoDetail},
		"before six years":   {audit.Erasure{Event: young, Reason: audit.ReasonCourt}, audit.ErrRetention},
		"under a hold":       {audit.Erasure{Event: held, Reason: audit.ReasonCourt}, audit.ErrHeld},
		"early under a hold": {audit.Erasure{Event: held, Reason: audit.ReasonCourt, Early: true}, audit.ErrHeld},
	} {
		if err := erase(tt.e); !errors.Is(err, tt.want) {
			t.Errorf("%s: Erase = %v, want %v", name, err, tt.want)
		}
	}
	if err := j.Erase(t.Context(), audit.Erasure{Event: old, Reason: audit.ReasonCourt}); !errors.Is(err, access.ErrNoPrincipal) {
		t.Errorf("Erase(nobody) = %v", err)
	}
	if n := len(types(t, j, audit.Erased)); n != 0 || len(detailFiles(t, dir)) != 3 {
		t.Fatalf("%d erasures are recorded, %d details are left", n, len(detailFiles(t, dir)))
	}
	if err := erase(audit.Erasure{Event: old, Reason: audit.ReasonIndividual}); err != nil {
		t.Error(err)
	}
	if err := erase(audit.Erasure{Event: young, Reason: audit.ReasonCourt, Citation: "164.512(e)(1)(i)", Early: true}); err != nil {
		t.Error(err)
	}
	if err := j.Release(officer(t), hold.ID); err != nil {
		t.Error(err)
	}
	if err := erase(audit.Erasure{Event: held, Reason: audit.ReasonMistake}); err != nil {
		t.Error(err)
	}
	erased := types(t, j, audit.Erased)
	if len(erased) != 6 || erased[0].Outcome != audit.Partial || erased[1].Outcome != audit.Success || erased[1].About != old ||
		erased[3].About != young || erased[3].Citation != "164.512(e)(1)(i)" || erased[3].Reason != audit.ReasonCourt || erased[3].Actor.ID != "u-9" {
		t.Errorf("recorded %+v", erased)
	}
	if files := detailFiles(t, dir); len(files) != 0 {
		t.Errorf("still there: %v", files)
	}
	for _, id := range []string{old, held, young} {
		if _, err := j.Detail(officer(t), id); !errors.Is(err, audit.ErrErased) {
			t.Errorf("Detail = %v, want ErrErased", err)
		}
		if err := erase(audit.Erasure{Event: id, Reason: audit.ReasonCourt, Early: true}); !errors.Is(err, audit.ErrErased) {
			t.Errorf("Erase again = %v, want ErrErased", err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); len(r.Defects) > 0 {
		t.Errorf("Verify: %+v", r.Defects)
	}
}

func TestAnErasureThatACrashCutShort(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	id := disclose(t, j, "r-1", "Jane Roe")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	file := detailFiles(t, dir)[0]
	if err := os.Rename(file, file+".erase"); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, dir, audit.Config{})
	if files := detailFiles(t, dir); len(files) != 0 {
		t.Errorf("still there: %v", files)
	}
	if erased := types(t, j, audit.Erased); len(erased) != 1 || erased[0].About != id || erased[0].Outcome != audit.Success {
		t.Errorf("recorded %+v", erased)
	}
}
