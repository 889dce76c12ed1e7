// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

func physician(t testing.TB) context.Context {
	t.Helper()
	return accesstest.As(t, t.Context(), "physician", access.Treatment)
}

func jane() Patient {
	return Patient{
		Name: storage.Seal("Jane Roe"), MRN: storage.Seal("MRN-123456"), SSN: storage.Seal("123-45-6789"), BirthDate: storage.Seal("1980-02-03"),
		NextVisit: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
	}
}

// created stores a patient and reads it back, sealed.
func created(t testing.TB, db *storagetest.DB, ctx context.Context, p Patient) Patient {
	t.Helper()
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Settle(ctx, db.DB); err != nil { // so that no event of the write comes late
		t.Fatal(err)
	}
	return reread(t, db, ctx, p.ID)
}

func reread(t testing.TB, db *storagetest.DB, ctx context.Context, id string) Patient {
	t.Helper()
	var q Patient
	if err := db.WithContext(ctx).Take(&q, "id = ?", id).Error; err != nil {
		t.Fatal(err)
	}
	return q
}

func sealedTo(t testing.TB, ctx context.Context, s storage.Sealed[string], want error) {
	t.Helper()
	if v, err := s.Get(ctx); !errors.Is(err, want) || v != "" {
		t.Errorf("Get = %q, %v; want %v", v, err, want)
	}
	if text := s.Text(ctx); !strings.HasPrefix(text, "[PHI") {
		t.Errorf("Text = %q, want the placeholder", text)
	}
}

func shows(t testing.TB, ctx context.Context, s storage.Sealed[string], want string) {
	t.Helper()
	if v, err := s.Get(ctx); v != want || err != nil {
		t.Errorf("Get = %q, %v; want %q", v, err, want)
	}
}

func TestRevealTakesValuesRowsAndSlices(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{}, &Encounter{})
	ctx := physician(t)
	q := created(t, db, ctx, jane())
	other := created(t, db, ctx, Patient{Name: storage.Seal("Second Person")})
	for name, reveal := range map[string]func(p *Patient) error{
		"a value": func(p *Patient) error { return storage.Reveal(ctx, &p.Name) },
		"a row":   func(p *Patient) error { return storage.Reveal(ctx, p) },
		"a slice": func(p *Patient) error {
			s := []Patient{other, *p}
			err := storage.Reveal(ctx, s)
			*p = s[1]
			return err
		},
		"a pointer to slice":  func(p *Patient) error { s := []Patient{*p}; err := storage.Reveal(ctx, &s); *p = s[0]; return err },
		"a slice of pointers": func(p *Patient) error { return storage.Reveal(ctx, []*Patient{nil, p, &Patient{}}) },
		"an array":            func(p *Patient) error { s := [1]*Patient{p}; return storage.Reveal(ctx, &s) },
		"a pointer twice":     func(p *Patient) error { return storage.Reveal(ctx, []*Patient{p, p}) },
	} {
		p := q
		if err := reveal(&p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		shows(t, ctx, p.Name, "Jane Roe")
		sealedTo(t, ctx, q.Name, storage.ErrSealed) // the copy made before
	}
	for name, target := range map[string]any{
		"a value": q, "nil": nil, "a map": map[string]*Patient{"x": &q}, "a string": "x", "a nil pointer": (*Patient)(nil), "a nil Sealed": (*storage.Sealed[string])(nil),
		"a pointer to a string": new(string), "a Sealed by value": q.Name,
	} {
		if err := storage.Reveal(ctx, target); err == nil {
			t.Errorf("Reveal of %s succeeds", name)
		}
	}
}

func TestRevealOfAValueIsOneEventWithOneField(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	q := created(t, db, ctx, jane())
	db.Trail.Reset()
	if err := storage.Reveal(ctx, &q.Name); err != nil {
		t.Fatal(err)
	}
	sealedTo(t, ctx, q.MRN, storage.ErrSealed)
	if evs := db.Trail.Events(); len(evs) != 1 {
		t.Fatalf("%d events, want 1", len(evs))
	}
	audittest.Want(t, db.Trail, audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: []audit.Object{{Type: "patient", Record: q.ID, Patient: q.ID, Version: 1, Fields: []string{"Name"}}}})
}

func TestRevealNeedsAScope(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	q := created(t, db, ctx, jane())
	ended, cancel := context.WithCancel(t.Context())
	endedCtx := accesstest.As(t, ended, "physician", access.Treatment)
	cancel()
	for name, bad := range map[string]context.Context{
		"no principal":     t.Context(),
		"no purpose":       access.With(t.Context(), accesstest.Principal("t-test", "physician"), ""),
		"unknown purpose":  access.With(t.Context(), accesstest.Principal("t-test", "physician"), "CURIOSITY"),
		"empty principal":  access.With(t.Context(), access.Principal{}, access.Treatment),
		"e-mail as the ID": access.With(t.Context(), access.Principal{ID: "jane@example.org", Tenant: "t-test", Kind: access.Human, Roles: []string{"physician"}}, access.Treatment),
		"ended":            endedCtx,
	} {
		p := q
		if err := storage.Reveal(bad, &p); err == nil {
			t.Errorf("%s: Reveal succeeds", name)
		}
		sealedTo(t, ctx, p.Name, storage.ErrSealed)
		if err := db.WithContext(bad).Find(&[]Patient{}).Error; err == nil {
			t.Errorf("%s: Find succeeds", name)
		}
		n := jane()
		if err := db.WithContext(bad).Create(&n).Error; err == nil {
			t.Errorf("%s: Create succeeds", name)
		}
	}
}

func TestWhatIsRevealedIsForItsScopeOnly(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	clock.Store(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC).Unix())
	db := storagetest.NewDBWith(t, func(c *storage.Config) {
		c.Now = func() time.Time { return time.Unix(clock.Load(), 0) }
		c.RevealTTL = time.Minute
	}, &Patient{})
	request, cancel := context.WithCancel(t.Context())
	defer cancel()
	ctx := accesstest.As(t, request, "physician", access.Treatment)
	q := created(t, db, ctx, jane())
	if err := storage.Reveal(ctx, &q); err != nil {
		t.Fatal(err)
	}
	shows(t, ctx, q.Name, "Jane Roe")
	for name, other := range map[string]context.Context{
		"nobody":               t.Context(),
		"another person":       accesstest.As(t, t.Context(), "nurse", access.Treatment),
		"the same once more":   accesstest.As(t, t.Context(), "physician", access.Treatment),
		"ForPurpose":           access.ForPurpose(ctx, access.Treatment),
		"another purpose":      access.ForPurpose(ctx, access.EmergencyTreatment),
		"another tenant's":     accesstest.AsIn(t, t.Context(), "t-other", "physician", access.Treatment),
		"a context without it": context.Background(),
	} {
		sealedTo(t, other, q.Name, storage.ErrNotRevealed)
		if got := q.SSN.Text(other); got != "[PHI:ssn]" {
			t.Errorf("%s: the mask is shown: %q", name, got)
		}
	}
	if got := q.SSN.Text(ctx); got != "***-**-6789" {
		t.Errorf("SSN = %q, want the mask", got)
	}
	clock.Add(59)
	shows(t, ctx, q.Name, "Jane Roe")
	clock.Add(1)
	sealedTo(t, ctx, q.Name, storage.ErrNotRevealed) // RevealTTL
	if got := q.SSN.Text(ctx); got != "[PHI:ssn]" {
		t.Errorf("SSN after the TTL = %q", got)
	}
	if err := storage.Reveal(ctx, &q); err != nil {
		t.Fatal(err)
	}
	shows(t, ctx, q.Name, "Jane Roe")
	cancel() // the request ends
	sealedTo(t, ctx, q.Name, storage.ErrNotRevealed)
}

func TestRevealSaysWhyThereIsNoPlaintext(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	p := jane()
	p.Notes = storage.Sealed[string]{}
	q := created(t, db, ctx, p)
	if err := storage.Reveal(ctx, &q); err != nil {
		t.Fatal(err)
	}
	if _, err := q.SSN.Get(ctx); !errors.Is(err, storage.ErrMasked) {
		t.Errorf("masked: %v, want ErrMasked", err)
	}
	// Notes is NULL and withheld from a physician: that must not look like "none".
	if _, err := q.Notes.Get(ctx); !errors.Is(err, storage.ErrWithheld) || q.Notes.IsNull() {
		t.Errorf("a withheld NULL: %v, NULL %v; want ErrWithheld", err, q.Notes.IsNull())
	}
	if b, err := minimize.JSON(ctx, q); err != nil || !strings.Contains(string(b), `"_withheld":["Notes"]`) || strings.Contains(string(b), "123-45-6789") {
		t.Errorf("JSON = %s, %v", b, err)
	}
	bill := accesstest.As(t, t.Context(), "billing", access.Payment)
	r := reread(t, db, bill, q.ID)
	if err := storage.Reveal(bill, &r); err != nil {
		t.Fatal(err)
	}
	shows(t, bill, r.Name, "Jane Roe")
	if got := r.SSN.Text(bill); got != "***-**-6789" {
		t.Errorf("SSN = %q", got)
	}
}

// A row of which every sealed column is NULL is revealed too: withheld is not
// none.
func TestARowOfNULLsIsRevealed(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	q := created(t, db, ctx, Patient{})
	db.Trail.Reset()
	if err := storage.Reveal(ctx, &q); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Notes.Get(ctx); !errors.Is(err, storage.ErrWithheld) || q.Notes.IsNull() {
		t.Errorf("withheld NULL: %v, NULL %v; want ErrWithheld", err, q.Notes.IsNull())
	}
	if v, err := q.Name.Get(ctx); v != "" || err != nil || !q.Name.IsNull() {
		t.Errorf("shown NULL: %q, %v", v, err)
	}
	audittest.Want(t, db.Trail, audit.Event{Type: audit.Revealed, Objects: []audit.Object{{Record: q.ID}}})
}

func TestRevealNamesWhatDidNotOpen(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
		ctx := physician(t)
		a, b := created(t, db, ctx, jane()), created(t, db, ctx, Patient{Name: storage.Seal("Second Person"), BirthDate: storage.Seal("1990-01-01")})
		foreignCtx := accesstest.AsIn(t, t.Context(), "t-other", "physician", access.Treatment)
		c := created(t, db, foreignCtx, Patient{Name: storage.Seal("Third Person")})
		raw := admin(t, d)
		cell := func(column, id string) []byte { return storagetest.RawColumn(t, db.DB, "patients", column, id) }
		put := func(cell []byte) {
			t.Helper()
			mark := [2]string{"?", "?"}
			if db.Name() == "postgres" {
				mark = [2]string{"$1", "$2"}
			}
			if _, err := raw.Exec("UPDATE patients SET name = "+mark[0]+" WHERE id = "+mark[1], cell, a.ID); err != nil {
				t.Fatal(err)
			}
		}
		good := cell("name", a.ID)
		flip := func(i int) []byte { c := slices.Clone(good); c[i] ^= 1; return c }
		for name, bad := range map[string][]byte{
			"a flipped byte of the ciphertext": flip(len(good) - 20),
			"a flipped byte of the tag":        flip(len(good) - 1),
			"a flipped byte of the IV":         flip(8),
			"another key version":              flip(5),
			"truncated":                        good[:len(good)-2],
			"lengthened":                       append(slices.Clone(good), 0),
			"of another patient":               cell("name", b.ID),
			"of another column":                cell("birth_date", a.ID),
			"of another tenant":                cell("name", c.ID),
			"bytes dressed as a cell":          append([]byte{0xF9, 1, 0, 0, 0, 1}, make([]byte, 40)...),
			"key version 0":                    append([]byte{0xF9, 1, 0, 0, 0, 0}, make([]byte, 40)...),
		} {
			put(bad)
			db.Trail.Reset()
			q := reread(t, db, ctx, a.ID)
			err := storage.Reveal(ctx, []*Patient{&q, &b})
			var re *storage.RevealError
			if !errors.As(err, &re) || !slices.Equal(re.Unavailable[a.ID], []string{"Name"}) || len(re.Denied) != 0 || len(re.Unavailable) != 1 {
				t.Errorf("%s: Reveal = %v", name, err)
				continue
			}
			sealedTo(t, ctx, q.Name, storage.ErrUnavailable)
			shows(t, ctx, q.MRN, "MRN-123456")
			shows(t, ctx, b.Name, "Second Person")
			if r := q.Name.Minimized(ctx); r.State != minimize.Unavailable {
				t.Errorf("%s: state %v", name, r.State)
			}
			audittest.Want(t, db.Trail, audit.Event{Type: audit.Revealed}, audit.Event{Type: audit.RevealFailed, Reason: audit.ReasonCell, Objects: []audit.Object{{Record: a.ID, Fields: []string{"Name"}}}})
			// Saved back, it is not lost.
			q.NextVisit = q.NextVisit.Add(time.Hour)
			if err := db.WithContext(ctx).Save(&q).Error; err != nil {
				t.Errorf("%s: Save = %v", name, err)
			}
			if got := cell("name", a.ID); !slices.Equal(got, bad) {
				t.Errorf("%s: Save wrote the cell that did not open", name)
			}
		}
		put(good)
		q := reread(t, db, ctx, a.ID)
		if err := storage.Reveal(ctx, &q); err != nil {
			t.Error(err)
		}
		shows(t, ctx, q.Name, "Jane Roe")
	})
}

// A whole row that was copied under another ID opens nowhere.
func TestARowCopiedToAnotherRecordDoesNotOpen(t *testing.T) {
	t.Parallel()
	d := openSQLite(t)
	db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
	ctx := physician(t)
	a := created(t, db, ctx, jane())
	e := Encounter{PatientID: a.ID, Reason: storage.Seal("cough")}
	if err := db.WithContext(ctx).Create(&e).Error; err != nil {
		t.Fatal(err)
	}
	b := created(t, db, ctx, Patient{Name: storage.Seal("Second Person")})
	raw := admin(t, d)
	exec(t, raw, "UPDATE patients SET mrn = (SELECT mrn FROM patients WHERE id = '"+a.ID+"'), name = (SELECT name FROM patients WHERE id = '"+a.ID+"') WHERE id = '"+b.ID+"'")
	exec(t, raw, "UPDATE encounters SET patient_id = '"+b.ID+"' WHERE id = '"+e.ID+"'")
	q := reread(t, db, ctx, b.ID)
	var re *storage.RevealError
	if err := storage.Reveal(ctx, &q); !errors.As(err, &re) || len(re.Unavailable[b.ID]) != 2 {
		t.Errorf("Reveal of a copied row = %v", err)
	}
	var es []Encounter
	if err := db.WithContext(ctx).Find(&es).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, es); !errors.As(err, &re) || len(re.Unavailable[e.ID]) != 1 {
		t.Errorf("Reveal of an encounter given to another patient = %v", err)
	}
}

// denying allows what the rules allow but for some records.
type denying struct {
	access.Authorizer
	deny  func(access.Resource) bool
	count atomic.Int64
	fail  atomic.Pointer[error]
}

func (d *denying) Check(ctx context.Context, r access.Request) (access.Decision, error) {
	d.count.Add(1)
	if err := d.fail.Load(); err != nil {
		return access.Decision{}, *err
	}
	dec, err := d.Authorizer.Check(ctx, r)
	for i, res := range r.Resources {
		if d.deny(res) {
			dec.Verdicts[i] = access.Verdict{Code: access.DenySubject}
		}
	}
	return dec, err
}

func TestDeniedRowsStaySealed(t *testing.T) {
	t.Parallel()
	var secret string
	az := &denying{Authorizer: accesstest.Allow(), deny: func(r access.Resource) bool { return secret != "" && r.ID == secret && r.Type == "encounter" }}
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = az }, &Patient{}, &Encounter{})
	ctx := physician(t)
	p := created(t, db, ctx, jane())
	es := []Encounter{{PatientID: p.ID, Reason: storage.Seal("one")}, {PatientID: p.ID, Reason: storage.Seal("two")}, {PatientID: p.ID, Reason: storage.Seal("three")}}
	if err := db.WithContext(ctx).Create(&es).Error; err != nil {
		t.Fatal(err)
	}
	secret = es[1].ID
	db.Trail.Reset()
	err := storage.Reveal(ctx, es)
	var re *storage.RevealError
	if !errors.As(err, &re) || !slices.Equal(re.Denied, []string{secret}) || re.Decision == "" || strings.Contains(err.Error(), "two") {
		t.Fatalf("Reveal = %v", err)
	}
	shows(t, ctx, es[0].Reason, "one")
	sealedTo(t, ctx, es[1].Reason, storage.ErrSealed)
	shows(t, ctx, es[2].Reason, "three")
	audittest.Want(t, db.Trail, audit.Event{Type: audit.Revealed, Outcome: audit.Partial, Objects: []audit.Object{
		{Record: secret, Denied: true}, {Record: es[0].ID, Fields: []string{"Reason"}}}})
	for _, ev := range db.Trail.Events() {
		for _, o := range ev.Objects {
			if o.Record == secret && len(o.Fields) > 0 {
				t.Error("the event lists fields of a denied row")
			}
		}
	}
	// All denied is a denial.
	db.Trail.Reset()
	var denied *access.DeniedError
	if err := storage.Reveal(ctx, &es[1]); !errors.As(err, &denied) || denied.Decision == "" {
		t.Errorf("Reveal of a denied row = %v", err)
	}
	audittest.Want(t, db.Trail, audit.Event{Type: audit.Denied, Objects: []audit.Object{{Record: secret}}})
	audittest.WantNone(t, db.Trail, audit.Event{Type: audit.Revealed})
	// An engine that errs opens nothing.
	broken := errors.New("engine down")
	az.fail.Store(&broken)
	fresh := []Encounter{}
	if err := db.WithContext(ctx).Find(&fresh).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, fresh); !errors.Is(err, broken) {
		t.Errorf("Reveal with a broken engine = %v", err)
	}
	for _, e := range fresh {
		sealedTo(t, ctx, e.Reason, storage.ErrSealed)
	}
}

func TestNothingOpensThatIsNotRecorded(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	q := created(t, db, ctx, jane())
	down := errors.New("disk full")
	db.Trail.Fail(down)
	if err := storage.Reveal(ctx, &q); !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, down) {
		t.Errorf("Reveal = %v, want ErrUnavailable", err)
	}
	sealedTo(t, ctx, q.Name, storage.ErrSealed)
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if s := fmt.Sprintf(verb, q); strings.Contains(s, "Jane") || strings.Contains(s, "6789") {
			t.Errorf("%s holds plaintext", verb)
		}
	}
	// Clear PHI is not handed out either.
	var list []Patient
	if err := db.WithContext(ctx).Find(&list).Error; !errors.Is(err, audit.ErrUnavailable) || len(list) != 0 {
		t.Errorf("Find = %v with %d rows, want ErrUnavailable and none", err, len(list))
	}
	var one Patient
	if err := db.WithContext(ctx).Take(&one).Error; !errors.Is(err, audit.ErrUnavailable) || !one.NextVisit.IsZero() || one.ID != "" {
		t.Errorf("Take = %v and left %v", err, one.Record)
	}
	db.Trail.Fail(nil)
	if err := storage.Reveal(ctx, &q); err != nil {
		t.Error(err)
	}
	shows(t, ctx, q.Name, "Jane Roe")
}

// The event is durable before anything is opened: a trail that looks at the
// target while it records sees it sealed.
func TestTheEventComesBeforeThePlaintext(t *testing.T) {
	t.Parallel()
	spy := &spyTrail{Trail: audittest.New(t)}
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Audit = spy }, &Patient{})
	ctx := physician(t)
	q := created(t, db, ctx, jane())
	spy.onRecord = func(ev audit.Event) {
		if ev.Type == audit.Revealed {
			sealedTo(t, ctx, q.Name, storage.ErrSealed)
		}
	}
	if err := storage.Reveal(ctx, &q); err != nil {
		t.Fatal(err)
	}
	shows(t, ctx, q.Name, "Jane Roe")
}

// A spyTrail looks at what is recorded.
type spyTrail struct {
	*audittest.Trail
	onRecord  func(audit.Event)
	onAttempt func(audit.Event) error
}

func (s *spyTrail) Record(ctx context.Context, ev audit.Event) (audit.Receipt, error) {
	if s.onRecord != nil {
		s.onRecord(ev)
	}
	return s.Trail.Record(ctx, ev)
}

func (s *spyTrail) Attempt(ctx context.Context, ev audit.Event) (audit.Ticket, error) {
	if s.onAttempt != nil {
		if err := s.onAttempt(ev); err != nil {
			return audit.Ticket{}, err
		}
	}
	return s.Trail.Attempt(ctx, ev)
}

func TestABatchIsOneAct(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	az := &denying{Authorizer: accesstest.Allow(), deny: func(access.Resource) bool { return false }}
	d := openSQLite(t)
	cfg := func(c *storage.Config) { c.KEK, c.Access = kek, az }
	db := storagetest.Open(t, d, cfg, &Encounter{}, &Patient{})
	ctx := physician(t)
	const n = 1000
	ps := make([]Patient, n)
	for i := range ps {
		ps[i] = Patient{Name: storage.Seal(fmt.Sprintf("Person %d", i)), BirthDate: storage.Seal("1980-01-01")}
	}
	if err := db.WithContext(ctx).CreateInBatches(&ps, 250).Error; err != nil {
		t.Fatal(err)
	}
	cold := storagetest.Open(t, d, cfg, &Patient{}, &Encounter{}) // another process: no key is cached
	var list []Patient
	if err := cold.WithContext(ctx).Find(&list).Error; err != nil || len(list) != n {
		t.Fatalf("%d rows, %v", len(list), err)
	}
	cold.Trail.Reset()
	checks, calls := az.count.Load(), kek.Decrypts()
	if err := storage.Reveal(ctx, list); err != nil {
		t.Fatal(err)
	}
	evs := cold.Trail.Events()
	if len(evs) != 1 || len(evs[0].Objects) != n {
		t.Errorf("%d events, want 1 with %d objects", len(evs), n)
	}
	if got := az.count.Load() - checks; got != 1 {
		t.Errorf("%d access checks, want 1", got)
	}
	if got := kek.Decrypts() - calls; got > 1 {
		t.Errorf("%d calls of the KEK for one tenant, want at most 1", got)
	}
	for i := range list {
		if v, err := list[i].Name.Get(ctx); err != nil || !strings.HasPrefix(v, "Person ") {
			t.Fatalf("row %d: %q, %v", i, v, err)
		}
	}
	calls = kek.Decrypts()
	if err := storage.Reveal(ctx, list); err != nil || kek.Decrypts() != calls {
		t.Errorf("a second Reveal: %v, %d calls of the KEK, want none", err, kek.Decrypts()-calls)
	}
}

// A cell that the app moves to another struct is still of its own record.
func TestAMovedCellKeepsItsRecord(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	a, b := created(t, db, ctx, jane()), created(t, db, ctx, Patient{Name: storage.Seal("Second Person")})
	b.Name = a.Name
	db.Trail.Reset()
	if err := storage.Reveal(ctx, &b); err != nil {
		t.Fatal(err)
	}
	shows(t, ctx, b.Name, "Jane Roe")
	audittest.Want(t, db.Trail, audit.Event{Type: audit.Revealed, Objects: []audit.Object{{Record: a.ID, Patient: a.ID, Fields: []string{"Name"}}}})
	for _, ev := range db.Trail.Events() {
		for _, o := range ev.Objects {
			if o.Record == b.ID && slices.Contains(o.Fields, "Name") {
				t.Error("the event names the struct's record for another's cell")
			}
		}
	}
	if err := db.WithContext(ctx).Save(&b).Error; !errors.Is(err, storage.ErrRefused) {
		t.Errorf("Save of a moved cell = %v, want ErrRefused", err)
	}
}

func TestRevealOfTwoDatabasesIsRefused(t *testing.T) {
	t.Parallel()
	x, y := storagetest.NewDB(t, &Patient{}), storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	a, b := created(t, x, ctx, jane()), created(t, y, ctx, jane())
	if err := storage.Reveal(ctx, []*Patient{&a, &b}); err == nil {
		t.Error("Reveal of values from two databases succeeds")
	}
	sealedTo(t, ctx, a.Name, storage.ErrSealed)
}

func TestRevealInATransaction(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	p := jane()
	err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&p).Error; err != nil {
			return err
		}
		outside := p
		var re *storage.RevealError
		if err := storage.Reveal(ctx, &outside); !errors.As(err, &re) || len(re.Unavailable[p.ID]) == 0 {
			t.Errorf("Reveal outside the transaction that made the key = %v, want unavailable", err)
		}
		in := p
		if err := storage.Reveal(storage.InTx(ctx, tx), &in); err != nil {
			t.Errorf("Reveal in the transaction = %v", err)
		}
		shows(t, ctx, in.Name, "Jane Roe")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	q := reread(t, db, ctx, p.ID)
	if err := storage.Reveal(ctx, &q); err != nil {
		t.Error(err)
	}
	shows(t, ctx, q.Name, "Jane Roe")
}

func TestKEKDown(t *testing.T) {
	t.Parallel()
	kek, down := cryptotest.NewKEK(), errors.New("kms: throttled")
	d := openSQLite(t)
	cfg := func(c *storage.Config) { c.KEK = kek }
	db := storagetest.Open(t, d, cfg, &Patient{})
	ctx := physician(t)
	q := created(t, db, ctx, jane())
	second := accesstest.AsIn(t, t.Context(), "t-second", "physician", access.Treatment) // Open asks for the first tenant's key
	id := created(t, db, second, jane()).ID
	cold := storagetest.Open(t, d, cfg, &Patient{})
	kek.Fail(down)
	r := reread(t, cold, second, id)
	if err := storage.Reveal(second, &r); !errors.Is(err, down) {
		t.Errorf("Reveal with the KEK down = %v", err)
	}
	sealedTo(t, second, r.Name, storage.ErrSealed)
	other := accesstest.AsIn(t, t.Context(), "t-new", "physician", access.Treatment)
	p := jane()
	if err := cold.WithContext(other).Create(&p).Error; !errors.Is(err, down) {
		t.Errorf("Create for a new tenant with the KEK down = %v", err)
	}
	if p.ID != "" || p.Version != 0 {
		t.Errorf("a failed Create left %v", p.Record)
	}
	if err := storage.Reveal(ctx, &q); err != nil { // its tenant's key is cached
		t.Errorf("Reveal with a cached key = %v", err)
	}
	kek.Fail(nil)
	if err := storage.Reveal(second, &r); err != nil {
		t.Errorf("Reveal after the KEK is back = %v", err)
	}
	shows(t, second, r.Name, "Jane Roe")
}
