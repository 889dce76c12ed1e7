// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

// Reveal opens sealed values for the scope of ctx, in one act: it asks the
// authorizer about every record, the policy about every field, makes one event
// durable that names every patient and field, and only then decrypts. target is
// a pointer to a Sealed, to a model that was read through storage, or to a
// slice of models; the records that a model is associated with are revealed by
// themselves.
//
// Reveal puts new values in place; it needs sole ownership of target, and
// copies made before stay sealed. What the policy withholds is not decrypted,
// and of what it masks only the mask is kept.
//
// If the recording fails or an engine errs, nothing opens. A record that is
// denied stays sealed and a cell that does not open shows as unavailable: then
// the rest is open, and the error is a [*RevealError].
func Reveal(ctx context.Context, target any) error {
	scope, err := access.From(ctx)
	if err != nil {
		return err
	}
	b := &batch{ctx: ctx, scope: scope, rows: map[*row]int{}, shredded: map[string]bool{}, layouts: map[reflect.Type]*layout{}}
	if err := b.collect(target); err != nil {
		return err
	}
	if len(b.found) == 0 {
		return nil
	}
	return b.reveal()
}

// A batch is one call of Reveal.
type batch struct {
	ctx   context.Context
	scope *access.Scope
	p     *plugin

	records []*record
	rows    map[*row]int // index into records
	found   []slot

	shredded map[string]bool // records whose patient's keys were destroyed

	layouts map[reflect.Type]*layout
	ahead   int // rows of a slice that are still to come, for the first of them
}

// A record is one row with cells to reveal.
type record struct {
	*row
	at      func() *row
	allowed bool
	role    string // of the grant that it is allowed by
	fields  []string
}

// A slot is one value to reveal, and where it stands.
type slot struct {
	s      sealedField
	c      *cell // nil: a NULL in a row of known model
	field  *field
	record int
	view   minimize.View
}

// collect finds the values below target.
func (b *batch) collect(target any) error {
	if s, ok := target.(sealedField); ok && !reflect.ValueOf(target).IsNil() {
		_, err := b.add(s, s.cell())
		return err
	}
	rv := reflect.ValueOf(target)
	if rv.Kind() != reflect.Pointer && rv.Kind() != reflect.Slice || rv.IsNil() {
		return errors.New("storage: reveal: pass a pointer to a Sealed, to a model, or to a slice of models")
	}
	return b.walk(rv)
}

func (b *batch) walk(rv reflect.Value) error {
	switch rv.Kind() {
	case reflect.Pointer:
		if rv.IsNil() {
			return nil
		}
		return b.walk(rv.Elem())
	case reflect.Slice, reflect.Array:
		b.ahead = rv.Len()
		for i := range rv.Len() {
			if err := b.walk(rv.Index(i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Struct:
		return b.row(rv)
	}
	return errors.New("storage: reveal: pass a pointer to a Sealed, to a model, or to a slice of models")
}

// A layout says where a struct type has Sealed fields.
type layout struct {
	record []int // where the embedded Record is; nil: none
	paths  [][]int
	far    []bool // one a path: behind a pointer, or one itself
	model  *model
	fields []*field // one a path, once the model is known
}

// row collects the values of one struct.
func (b *batch) row(rv reflect.Value) error {
	l := b.layouts[rv.Type()]
	if l == nil {
		l = &layout{}
		l.record, _ = findRecord(rv.Type())
		l.find(rv.Type(), nil, false)
		b.layouts[rv.Type()] = l
	}
	b.found = slices.Grow(b.found, len(l.paths)*max(b.ahead, 1))
	b.ahead = 0
	at := -1
	if r := l.row(rv); r != nil {
		n, err := b.recordOf(r)
		if err != nil {
			return err
		}
		at = n
		if l.model == nil {
			l.learn(r.model)
		}
	}
	var nulls []int
	for i, path := range l.paths {
		s := l.at(rv, i, path)
		if s == nil {
			continue
		}
		c := s.cell()
		if c == nil {
			nulls = append(nulls, i)
			continue
		}
		n, err := b.add(s, c)
		if err != nil {
			return err
		}
		if n >= 0 && at < 0 {
			at = n
		}
	}
	if at < 0 || l.model == nil {
		return nil
	}
	for _, i := range nulls { // "none" and "not shown to you" must not look alike
		s := l.at(rv, i, l.paths[i])
		b.found = append(b.found, slot{s: s, field: l.fields[i], record: at})
	}
	return nil
}

// row returns the record that the struct was read from or written to.
func (l *layout) row(rv reflect.Value) *row {
	if l.record == nil {
		return nil
	}
	ld := rv.FieldByIndex(l.record).Addr().Interface().(*Record).load
	if ld == nil || ld.row == nil {
		return nil
	}
	if r := ld.row(); r.model.typ == rv.Type() && r.bound() {
		return r
	}
	return nil
}

// bound reports whether it is known which record it is.
func (r *row) bound() bool {
	return r.tenant != "" && r.record != "" && (r.subject != "" || !r.model.own && r.model.subject == nil)
}

// at reaches a Sealed; nil where it is in a struct that is not there.
func (l *layout) at(rv reflect.Value, i int, path []int) sealedField {
	if !l.far[i] {
		return rv.FieldByIndex(path).Addr().Interface().(sealedField)
	}
	for n, f := range path {
		rv = rv.Field(f)
		if n < len(path)-1 && rv.Kind() == reflect.Pointer {
			if rv.IsNil() {
				return nil
			}
			rv = rv.Elem()
		}
	}
	return refOf(rv)
}

func (l *layout) find(t reflect.Type, path []int, far bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		p := append(slices.Clone(path), i)
		switch {
		case isSealedType(f.Type):
			l.paths, l.far = append(l.paths, p), append(l.far, far || f.Type.Kind() == reflect.Pointer)
		case f.Type.Kind() == reflect.Struct:
			if rec, _ := findRecord(f.Type); rec == nil || f.Anonymous {
				l.find(f.Type, p, far)
			}
		case f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct:
			if _, embedded := schema.ParseTagSetting(f.Tag.Get("gorm"), ";")["EMBEDDED"]; embedded || f.Anonymous {
				l.find(f.Type.Elem(), p, true)
			}
		}
	}
}

func (l *layout) learn(m *model) {
	l.model, l.fields = m, make([]*field, len(l.paths))
	for i, path := range l.paths {
		for _, f := range m.sealed {
			if slices.EqualFunc(f.StructField.Index, path, func(a, b int) bool { return a == b || a == -b-1 }) { // GORM's are negative behind a pointer
				l.fields[i] = f
			}
		}
	}
}

// add takes one cell. It returns the index of its record, -1 where there is
// nothing to reveal.
func (b *batch) add(s sealedField, c *cell) (int, error) {
	switch {
	case c == nil, c.isFresh(), c.isUnloaded():
		return -1, nil
	case c.row == nil || c.field == nil:
		return -1, fmt.Errorf("storage: reveal: %w", ErrUnbound)
	case !c.row().bound():
		return -1, fmt.Errorf("storage: reveal: %w", ErrUnbound)
	}
	n, err := b.recordOf(c.row())
	if err == nil {
		b.found = append(b.found, slot{s: s, c: c, field: c.field(), record: n})
	}
	return n, err
}

// recordOf returns the index of a row's record.
func (b *batch) recordOf(r *row) (int, error) {
	switch p := r.model.plugin(); b.p {
	case nil:
		b.p = p
	case p:
	default:
		return -1, errors.New("storage: reveal: the values come from two databases: reveal them apart")
	}
	n := len(b.records) - 1
	if n < 0 || b.records[n].row != r { // cells come row by row
		var ok bool
		if n, ok = b.rows[r]; !ok {
			n = len(b.records)
			b.records = append(b.records, &record{row: r, at: r.ref()})
			b.rows[r] = n
		}
	}
	return n, nil
}

func (b *batch) reveal() error {
	p := b.p
	who := b.scope.Principal()
	resources := make([]access.Resource, len(b.records))
	for i, r := range b.records {
		resources[i] = access.Resource{Type: r.model.name, ID: r.record, Patient: r.subject, Tenant: r.tenant}
	}
	d, err := p.cfg.Access.Check(b.ctx, access.Request{Action: access.Read, Resources: resources})
	if err != nil {
		return errors.Join(fmt.Errorf("storage: reveal: %w", err), b.recordDenied(codeOf(err), d.ID))
	}
	denied := 0
	for i, r := range b.records {
		if r.allowed = d.Allow(i) && r.tenant == who.Tenant; r.allowed {
			r.role = d.Verdicts[i].Role
		} else {
			denied++
		}
	}
	if denied == len(b.records) {
		err := &access.DeniedError{Action: access.Read, Resource: b.records[0].model.name, Code: firstDenial(d, len(resources)), Decision: d.ID}
		return errors.Join(err, b.recordDenied(codeOf(err), d.ID))
	}
	policy := minimize.Pin(b.scope, p.cfg.Minimize)
	type seen struct {
		class minimize.Class
		role  string
	}
	views := map[seen]minimize.View{}
	for i := range b.found {
		s := &b.found[i]
		if s.field == nil {
			continue
		}
		r := b.records[s.record]
		by := seen{s.field.class(b.ctx), r.role}
		v, ok := views[by]
		if !ok {
			v = policy.View(withRole(b.scope, r.role), b.scope.Purpose(), by.class)
			views[by] = v
		}
		s.view = v
		if r.allowed && v != minimize.Withhold && s.c != nil && (s.c.raw != nil || s.c.isOlder()) {
			r.fields = append(r.fields, s.field.Name)
		}
	}
	if err := b.record(d, denied); err != nil {
		return err
	}
	keys, err := b.keys()
	if err != nil {
		return fmt.Errorf("storage: reveal: %w", err)
	}
	olds, err := b.older()
	if err != nil {
		return fmt.Errorf("storage: reveal: %w", err)
	}
	failed := b.open(keys, olds)
	if denied == 0 && len(failed) == 0 {
		return nil
	}
	rerr := &RevealError{Decision: d.ID, Unavailable: failed}
	for _, r := range b.records {
		if !r.allowed {
			rerr.Denied = append(rerr.Denied, r.row.record)
		}
		if b.shredded[r.row.record] {
			rerr.Shredded = append(rerr.Shredded, r.row.record)
		}
	}
	if len(failed) > 0 {
		return errors.Join(rerr, b.recordFailed(failed))
	}
	return rerr
}

func (r *record) object() audit.Object {
	return audit.Object{Type: r.model.name, Tenant: r.tenant, Record: r.row.record, Patient: r.subject, Version: r.version, Fields: r.fields, Denied: !r.allowed}
}

// record makes the reveal durable before anything is opened.
func (b *batch) record(d access.Decision, denied int) error {
	ev := audit.Event{Type: audit.Revealed, Outcome: audit.Success, Action: access.Read, Decision: d.ID, Objects: make([]audit.Object, len(b.records))}
	if denied > 0 {
		ev.Outcome, ev.Reason = audit.Partial, audit.ReasonPolicy
	}
	for i, r := range b.records {
		if !r.allowed {
			r.fields = nil
		}
		ev.Objects[i] = r.object()
	}
	byGrant(&ev, d)
	if _, err := b.p.cfg.Audit.Record(b.ctx, ev); err != nil {
		return fmt.Errorf("storage: reveal: nothing was opened: %w", err)
	}
	return nil
}

func (b *batch) recordDenied(code access.Code, decision string) error {
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: access.Read, Code: code, Decision: decision}
	for _, r := range b.records {
		ev.Objects = append(ev.Objects, audit.Object{Type: r.model.name, Tenant: r.tenant, Record: r.row.record, Patient: r.subject})
	}
	_, err := b.p.cfg.Audit.Record(b.ctx, ev)
	return err
}

// recordFailed records what did not open: that a patient was shredded is no
// sign of an attack, and so an event of its own.
func (b *batch) recordFailed(failed map[string][]string) error {
	var errs []error
	for _, reason := range []audit.Reason{audit.ReasonCell, audit.ReasonShredded} {
		ev := audit.Event{Type: audit.RevealFailed, Outcome: audit.Failure, Reason: reason, Action: access.Read}
		for _, r := range b.records {
			fields := failed[r.row.record]
			if len(fields) > 0 && b.shredded[r.row.record] == (reason == audit.ReasonShredded) {
				ev.Objects = append(ev.Objects, audit.Object{Type: r.model.name, Tenant: r.tenant, Record: r.row.record, Patient: r.subject, Version: r.version, Fields: fields})
			}
		}
		if len(ev.Objects) > 0 {
			_, err := b.p.cfg.Audit.Record(b.ctx, ev)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// keys looks up the keys of all cells to open, once a subject and version.
func (b *batch) keys() (map[crypto.KeyRef]crypto.Found, error) {
	var refs []crypto.KeyRef
	out := map[crypto.KeyRef]crypto.Found{}
	tenant := b.scope.Principal().Tenant
	for _, s := range b.found {
		if ref, ok := b.ref(&s); ok {
			if _, seen := out[ref]; !seen {
				out[ref] = crypto.Found{}
				refs = append(refs, ref)
			}
		}
	}
	if len(refs) == 0 {
		return out, nil
	}
	if err := b.p.tooOld(b.ctx); err != nil {
		return nil, err
	}
	var found []crypto.Found
	var err error
	if tx, ok := b.ctx.Value(txKey{}).(*txConn); ok && tx.plugin == b.p {
		found, err = tx.keys.Lookup(b.ctx, tenant, refs)
	} else {
		found, err = b.p.keys.Lookup(b.ctx, &keyRows{plugin: b.p, conn: inner(b.p.pool)}, tenant, refs)
	}
	if err != nil {
		return nil, err
	}
	for i, ref := range refs {
		out[ref] = found[i]
	}
	return out, nil
}

// ref names the key of a cell that is to be opened.
func (b *batch) ref(s *slot) (crypto.KeyRef, bool) {
	r := b.records[s.record]
	if !r.allowed || s.view == minimize.Withhold || s.c == nil || s.c.raw == nil {
		return crypto.KeyRef{}, false
	}
	h, err := crypto.ParseHeader(s.c.raw)
	if err != nil {
		return crypto.KeyRef{}, false
	}
	return crypto.KeyRef{Subject: r.subject, Version: h.KeyVersion, Test: h.Test}, true
}

// open decrypts and puts the new cells in place. It returns what did not open.
func (b *batch) open(keys map[crypto.KeyRef]crypto.Found, olds map[heldOld]any) map[string][]string {
	var failed map[string][]string
	now := b.p.cfg.Now
	st := &stamp{scope: b.scope, until: now().Add(b.p.cfg.RevealTTL), now: now}
	valid := st.valid
	none, gone := &shown{kind: withheld, valid: valid}, &shown{kind: unavailable, valid: valid}
	cells, shows := make([]cell, 0, len(b.found)), make([]shown, 0, len(b.found))
	var buf []byte
	for i := range b.found {
		s := &b.found[i]
		r := b.records[s.record]
		if !r.allowed || s.field == nil {
			continue
		}
		cells = append(cells, cell{row: r.at, field: s.field.self})
		c := &cells[len(cells)-1]
		if s.c != nil {
			c.raw = s.c.raw
		}
		switch {
		case s.view == minimize.Withhold:
			c.shown = none
		case c.raw == nil && olds[heldOld{s.record, s.field}] == nil: // NULL, and the policy shows it
			s.s.setCell(nil)
			continue
		default:
			var value any
			var err error
			ref, ok := b.ref(s)
			if c.raw == nil {
				value, err = openOld(s.s, olds[heldOld{s.record, s.field}])
			} else if f := keys[ref]; ok && f.Key != nil && f.Err == nil {
				if buf, err = r.openCell(buf[:0], f.Key, s.field, c.raw); err == nil {
					value, err = s.s.open(buf)
				}
			} else {
				err = ErrUnavailable
				if errors.Is(f.Err, crypto.ErrShredded) {
					b.shredded[r.row.record] = true
				}
			}
			if err != nil {
				c.shown = gone
				if failed == nil {
					failed = map[string][]string{}
				}
				failed[r.row.record] = append(failed[r.row.record], s.field.Name)
				break
			}
			sh := shown{kind: full, value: value, valid: valid}
			if s.view != minimize.Reveal {
				mask := strings.Clone(minimize.Apply(s.view, s.field.tag.Class, s.s.textOf(value)))
				sh.kind, sh.value = partly, func() string { return mask }
			}
			shows = append(shows, sh)
			c.shown = &shows[len(shows)-1]
		}
		s.s.setCell(c)
	}
	clear(buf[:cap(buf)])
	return failed
}

// recordAs records an event that needs a principal.
func (p *plugin) recordAs(ctx context.Context, ev audit.Event) (audit.Receipt, error) {
	if _, err := access.From(ctx); err != nil {
		return audit.Receipt{}, err
	}
	return p.cfg.Audit.Record(ctx, ev)
}

// Sealer returns a sealer of small secrets, such as TOTP seeds, under the data
// key of their tenant. The Subject of a binding must be empty. It does not open
// the cells of models: Reveal does.
func Sealer(db *gorm.DB) (crypto.Sealer, error) {
	p, err := pluginOf(db)
	if err != nil {
		return nil, err
	}
	return sealer{p}, nil
}

type sealer struct{ p *plugin }

// secretField keeps what a Sealer sealed apart from the cells of models about
// no patient, which have the same key: no model's field is called so.
const secretField = "part164/secret:"

func ofSecret(b crypto.Binding) crypto.Binding {
	if b.Field != "" { // an empty one stays invalid
		b.Field = secretField + b.Field
	}
	return b
}

var errSubject = errors.New("storage: seal: Binding.Subject is not empty: a patient's values belong in a model")

// Seal implements crypto.Sealer.
func (s sealer) Seal(ctx context.Context, b crypto.Binding, plaintext []byte) ([]byte, error) {
	if b.Subject != "" {
		return nil, errSubject
	}
	b = ofSecret(b)
	var cell []byte
	err := s.p.transaction(ctx, func(tx *txConn) error {
		keys, err := tx.keys.SealingKeys(ctx, b.Tenant, []string{""})
		if err != nil {
			return err
		}
		cell, err = keys[""].Seal(nil, plaintext, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("storage: seal: %w", err)
	}
	return cell, nil
}

// Open implements crypto.Sealer.
func (s sealer) Open(ctx context.Context, b crypto.Binding, cell []byte) ([]byte, error) {
	if b.Subject != "" {
		return nil, errSubject
	}
	b = ofSecret(b)
	h, err := crypto.ParseHeader(cell)
	if err != nil {
		return nil, fmt.Errorf("storage: open: %w", err)
	}
	if err := s.p.tooOld(ctx); err != nil {
		return nil, err
	}
	found, err := s.p.keys.Lookup(ctx, &keyRows{plugin: s.p, conn: inner(s.p.pool)}, b.Tenant, []crypto.KeyRef{{Version: h.KeyVersion, Test: h.Test}})
	if err == nil {
		err = found[0].Err
	}
	if err != nil {
		return nil, fmt.Errorf("storage: open: %w", err)
	}
	return found[0].Key.Open(nil, cell, b)
}
