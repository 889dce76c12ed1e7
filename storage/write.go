// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

// An op is one INSERT, UPDATE or DELETE on a model with PHI.
type op struct {
	*plugin
	db     *gorm.DB
	ctx    context.Context
	m      *model
	tx     *txConn
	scope  *access.Scope
	policy *minimize.Policy
	action access.Action
	reason audit.Reason // of a job

	rows    []*row              // the records that it touches
	changes map[*row][]change   // what it writes to each; missing for a delete
	each    map[*row][]sealing  // cells of one value for several rows
	undo    []func()            // puts back what the app's structs held, after a failure
	done    []func()            // tells the app's structs what was written
	tokens  map[*row][]indexRow // search tokens to write
	drop    map[*row][]string   // logical names of fields whose tokens go; nil entry: all of the record

	indexKeys []*crypto.IndexKey // the tenant's, once a token was made
	formerly  []indexRow         // unique tokens that no other record may have under a field's other name
	asked     asked

	decisions []access.Decision // that allowed it
	roles     map[*row]string   // of the grants that it is allowed by; nil where none was needed
}

// A sealing is a cell to write to one of several rows.
type sealing struct {
	field *field
	cell  *cell
}

// A change is one PHI or other field that an op writes.
type change struct {
	field *field // nil: no PHI
	name  string
	raw   []byte // the new cell; nil for NULL and for clear fields
}

// write runs one of GORM's three write callbacks around prepare, which seals,
// checks and narrows the statement. The attempt is durable before the SQL
// runs, and its ticket is in the outbox of the same transaction.
func (p *plugin) write(db *gorm.DB, next func(*gorm.DB), kind access.Action, prepare func(*op) (run bool, err error)) {
	if db.Error != nil || isOwn(db.Statement) {
		next(db)
		return
	}
	m, err := p.modelOf(db)
	if err != nil {
		_ = db.AddError(err)
		return
	}
	if db.Statement.Dest == nil && db.Statement.SQL.Len() == 0 { // GORM would panic, and leave its transaction open
		_ = db.AddError(&RefusedError{Op: string(kind), Why: "there is nothing to write", Mend: "pass a pointer to the model"})
		return
	}
	if l := p.linkOf(db.Statement); m == nil && l != nil && db.Statement.SQL.Len() == 0 && !db.DryRun {
		p.writeLink(db, l, kind, next)
		return
	}
	if m == nil || db.Statement.SQL.Len() > 0 || db.DryRun {
		p.unbuilt(db, next)
		return
	}
	tx, inside := unwrap(db.Statement.ConnPool).(*txConn)
	if !inside { // begin saw to it, but for callbacks that an app has taken out
		_ = db.AddError(m.refuse("write", "it runs in no transaction of storage", "leave GORM's and storage's callbacks in place"))
		return
	}
	p.writeIn(db, m, tx, next, prepare)
}

// writeIn is one write in its span.
func (p *plugin) writeIn(db *gorm.DB, m *model, tx *txConn, next func(*gorm.DB), prepare func(*op) (run bool, err error)) {
	stmt := db.Statement
	before := stmt.ConnPool
	o := &op{plugin: p, db: db, ctx: stmt.Context, m: m, tx: tx, changes: map[*row][]change{}, each: map[*row][]sealing{}, tokens: map[*row][]indexRow{}, drop: map[*row][]string{}}
	err := o.run(next, prepare)
	stmt.ConnPool = before
	if err != nil {
		db.RowsAffected = 0
		_ = db.AddError(err)
	}
	db.Error = p.clean(string(o.action), m.table, db.Error)
	if errors.Is(db.Error, ErrDuplicate) {
		db.Error = o.answered(db.Error)
	}
	if db.Error != nil {
		for _, f := range slices.Backward(o.undo) {
			f()
		}
		return
	}
	tx.onRollback(o.undo)
}

func (o *op) run(next func(*gorm.DB), prepare func(*op) (bool, error)) error {
	var err error
	if o.scope, err = access.From(o.ctx); err != nil {
		return err
	}
	if err := o.tooOld(o.ctx); err != nil {
		return err
	}
	o.policy = minimize.Pin(o.scope, o.cfg.Minimize)
	stmt := o.db.Statement
	if !o.m.named(stmt) {
		return o.m.refuse("write", "the statement names another table than its model", "use the model's own table")
	}
	if _, ok := stmt.Clauses["RETURNING"]; ok {
		return o.m.refuse("write", "RETURNING", "read the record again")
	}
	if err := errors.Join(o.fit(o.db), o.checkClauses()); err != nil {
		return err
	}
	run, err := prepare(o)
	if err != nil {
		return err
	}
	if !run {
		return nil
	}
	if err := o.mayAsk(); err != nil {
		return err
	}
	if err := o.attempt(); err != nil {
		return err
	}
	stmt.ConnPool = &built{ConnPool: o.tx.Tx, check: o.m.checkWrite}
	next(o.db)
	if o.db.Error != nil {
		return nil
	}
	if o.action != access.Create && o.db.RowsAffected != int64(len(o.rows)) {
		return ErrConflict
	}
	if err := errors.Join(o.writeEach(), o.writeIndex()); err != nil {
		return err
	}
	for _, f := range o.done {
		f()
	}
	return nil
}

// checkClauses refuses texts that the app puts into the statement's own
// clauses: OR REPLACE and IGNORE would drop or keep rows behind our back, and
// what stands behind SET sets more.
func (o *op) checkClauses() error {
	for name, c := range o.db.Statement.Clauses {
		own := c.BeforeExpression == nil && c.AfterNameExpression == nil && c.AfterExpression == nil && c.Builder == nil
		switch e := c.Expression.(type) {
		case clause.Insert:
			own = own && e.Modifier == "" && e.Table.Name == ""
		case clause.Update:
			own = own && e.Modifier == "" && e.Table.Name == ""
		case clause.Delete:
			own = own && e.Modifier == ""
		}
		if !own {
			return o.m.refuse("write", "a modifier, hint or expression in the clause "+name, "leave it out: storage writes each record once, or says why not")
		}
	}
	return nil
}

// checkWrite looks at the finished text of a write: this table only, and no
// subquery.
func (m *model) checkWrite(query string) error {
	var bad error
	plain := scan(query, func(w string, _, end int) {
		switch {
		case bad != nil || w == m.bare():
		case w == "select" || w == "union":
			bad = m.refuse("write", "a subquery", "read first, then write values")
		case m.plugin().phi(w):
			bad = m.refuse("write", "the statement names another table with PHI", "write one table at a time")
		case called(query[end:]) && w != "values" && !mayCall(w):
			bad = m.refuse("write", "a call of "+w, "compute the value in the program")
		}
	})
	if bad == nil && !plain {
		bad = m.refuse("write", notPlain, "pass values as parameters")
	}
	return bad
}

// allow asks whether the principal may do this to these records, and records a
// refusal.
func (o *op) allow() error { return o.allowTo(o.action) }

func (o *op) allowTo(action access.Action) error {
	resources := make([]access.Resource, len(o.rows))
	for i, r := range o.rows {
		resources[i] = access.Resource{Type: o.m.name, ID: r.record, Patient: r.subject, Tenant: r.tenant}
	}
	d, err := o.cfg.Access.Check(o.asking(o.ctx, o.tx), access.Request{Action: action, Resources: resources})
	if err == nil && d.AllowAll(len(resources)) {
		for i, r := range o.rows {
			if role := d.Verdicts[i].Role; role != "" {
				if o.roles == nil {
					o.roles = make(map[*row]string)
				}
				o.roles[r] = role
			}
		}
		o.decisions = append(o.decisions, d)
		return nil
	}
	if err == nil {
		err = &access.DeniedError{Action: action, Resource: o.m.name, Code: firstDenial(d, len(resources)), Decision: d.ID}
	}
	return errors.Join(err, o.recordDenied(audit.ReasonPolicy, codeOf(err), d.ID, nil))
}

func (o *op) recordDenied(reason audit.Reason, code access.Code, decision string, fields []string) error {
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: reason, Action: o.action, Code: code, Decision: decision}
	for _, r := range o.rows {
		ev.Objects = append(ev.Objects, audit.Object{Type: o.m.name, Tenant: r.tenant, Record: r.record, Patient: r.subject, Fields: fields})
	}
	_, err := o.cfg.Audit.Record(o.ctx, ev)
	return err
}

// right checks one field: may the role write it, and is it a value at all?
type rights struct {
	denied, masked []string
}

func (o *op) right(v *rights, r *row, f *field, need minimize.Right) {
	if o.policy.Right(withRole(o.scope, o.roles[r]), o.scope.Purpose(), f.class(o.ctx)) < need {
		v.denied = append(v.denied, f.Name)
	}
}

func (v *rights) input(f *field, err error) {
	if err != nil {
		v.masked = append(v.masked, f.Name)
	}
}

// err turns what was found into one error, recorded.
func (o *op) rightsErr(v *rights) error {
	switch {
	case len(v.masked) > 0:
		return &WriteError{Resource: o.m.name, Fields: unique(v.masked), Masked: true}
	case len(v.denied) > 0:
		err := &WriteError{Resource: o.m.name, Fields: unique(v.denied)}
		return errors.Join(err, o.recordDenied(audit.ReasonMinimum, "", "", err.Fields))
	}
	return nil
}

func unique(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// attempt makes the event durable and puts its ticket into the transaction.
func (o *op) attempt() error {
	ev := audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Reason: o.reason, Action: o.action}
	for _, r := range o.rows {
		obj := audit.Object{Type: o.m.name, Tenant: r.tenant, Record: r.record, Patient: r.subject, Version: r.version}
		for _, c := range o.changes[r] {
			obj.Fields = append(obj.Fields, c.name)
			obj.Digests = append(obj.Digests, digest(c.raw))
		}
		ev.Objects = append(ev.Objects, obj)
	}
	for _, d := range o.decisions {
		ev.Decision = d.ID
		byGrant(&ev, d)
	}
	return o.propose(o.ctx, o.tx, o.m.table, ev)
}

// propose makes the event of a write durable, and puts its ticket into the
// transaction.
func (p *plugin) propose(ctx context.Context, tx *txConn, table string, ev audit.Event) error {
	ticket, err := p.cfg.Audit.Attempt(ctx, ev)
	if err != nil {
		return fmt.Errorf("storage: %s %s: %w", ev.Action, table, err)
	}
	tx.add(ticket)
	out := outboxRow{Attempt: ticket.Attempt, Writer: ticket.Writer, Digest: ticket.Digest, MAC: ticket.MAC}
	if err := p.own(ctx, tx.Tx).Create(&out).Error; err != nil {
		return fmt.Errorf("storage: insert into phi_outbox: %w", err)
	}
	return nil
}

// noDigest stands for a value that is not a cell: a digest of clear PHI could
// be guessed.
const noDigest = "0000000000000000"

func digest(raw []byte) string {
	if raw == nil {
		return noDigest
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// seal returns the cell of a fresh value, bound to its record, and the value's
// text, which is checked and indexed.
func (o *op) seal(key *crypto.Key, r *row, f *field, s sealedField) (*cell, []byte, error) {
	plain, err := s.plain(s.cell())
	if err != nil {
		return nil, nil, fmt.Errorf("%w (field %s)", err, f.Name)
	}
	raw, err := r.seal(key, f, plain)
	if err != nil {
		return nil, nil, fmt.Errorf("storage: seal %s: %w", f.logical, err)
	}
	text, err := textOf(s, frame(plain, 0))
	if err != nil {
		return nil, nil, err
	}
	return &cell{raw: raw, row: r.ref(), field: f.self}, []byte(text), nil
}

// seal returns the cell of an encoded value, padded as the field's tag says.
func (r *row) seal(key *crypto.Key, f *field, plain []byte) ([]byte, error) {
	return key.Seal(nil, frame(plain, f.tag.Pad), r.binding(f))
}

// textOf returns the text of what a cell opened to.
func textOf(s sealedField, opened []byte) (string, error) {
	v, err := s.open(opened)
	if err != nil {
		return "", err
	}
	return s.textOf(v), nil
}

func (r *row) binding(f *field) crypto.Binding {
	return crypto.Binding{Tenant: r.tenant, Field: f.logical, Record: r.record, Subject: r.subject}
}

// replace puts a cell into the app's struct, and the old one back if the write
// does not last and the app has put nothing else there.
func (o *op) replace(s sealedField, c *cell) {
	old := s.cell()
	s.setCell(c)
	o.undo = append(o.undo, func() {
		if s.cell() == c {
			s.setCell(old)
		}
	})
}

// keep puts a Record back as it is now if the write does not last.
func (o *op) keep(rec *Record) {
	old := *rec
	o.undo = append(o.undo, func() { *rec = old })
}

// inputText is what CheckInput looks at: the text of a value.
func inputText(plain []byte) string { return string(plain) }

// clearText is the text of a clear field's value.
func clearText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return ""
}

// create prepares an INSERT.
func (p *plugin) create(o *op) (bool, error) {
	o.action = access.Create
	stmt := o.db.Statement
	columns, err := o.insertColumns()
	if err != nil {
		return false, err
	}
	var found []reflect.Value
	if err := eachRow(stmt.ReflectValue, o.m.typ, func(rv reflect.Value) error { found = append(found, rv); return nil }); err != nil {
		return false, err
	}
	if n := destLen(stmt.ReflectValue); n != len(found) || n == 0 {
		return false, o.m.refuse("create", "the values are not the model: a map, another struct, or not addressable", "pass a pointer to the model, or a slice of it")
	}
	v := &rights{}
	var subjects []string
	for _, rv := range found {
		r, err := o.newRow(rv)
		if err != nil {
			return false, err
		}
		o.rows = append(o.rows, r)
		subjects = append(subjects, r.subject)
	}
	if err := o.allow(); err != nil {
		return false, err
	}
	keys, err := o.tx.keys.SealingKeys(o.ctx, o.scope.Principal().Tenant, unique(slices.Clone(subjects)))
	if err != nil {
		return false, fmt.Errorf("storage: create %s: %w", o.m.table, err)
	}
	type pending struct {
		r *row
		s sealedField
		f *field
	}
	var todo []pending
	for i, rv := range found {
		r := o.rows[i]
		for _, f := range o.m.sealed {
			s := f.ref(o.ctx, rv)
			c := s.cell()
			switch {
			case c == nil || columns != nil && !columns[f.DBName]:
				continue
			case !c.isFresh():
				return false, o.m.refuse("create", "field "+f.Name+" holds a sealed value of another record, or was not selected", "reveal it and storage.Seal its value")
			}
			o.right(v, r, f, minimize.Set)
			todo = append(todo, pending{r, s, f})
		}
		for _, f := range o.m.clear {
			val, zero := f.ValueOf(o.ctx, rv)
			if zero || columns != nil && !columns[f.DBName] {
				continue
			}
			o.right(v, r, f, minimize.Set)
			v.input(f, minimize.CheckInput(f.tag.Class, clearText(val)))
			o.changes[r] = append(o.changes[r], change{f, f.Name, nil})
		}
	}
	for _, t := range todo {
		c, plain, err := o.seal(keys[t.r.subject], t.r, t.f, t.s)
		if err != nil {
			return false, err
		}
		v.input(t.f, minimize.CheckInput(t.f.tag.Class, inputText(plain)))
		if err := o.index(t.r, t.f, plain); err != nil {
			return false, err
		}
		o.replace(t.s, c)
		o.changes[t.r] = append(o.changes[t.r], change{t.f, t.f.Name, c.raw})
	}
	if err := o.rightsErr(v); err != nil {
		return false, err
	}
	o.parents()
	for _, name := range deletedColumns(o.m) { // a row may be made deleted
		f := o.m.schema.LookUpField(name)
		for i, rv := range found {
			if val, zero := f.ValueOf(o.ctx, rv); !zero && (columns == nil || columns[name]) {
				o.changes[o.rows[i]] = append(o.changes[o.rows[i]], change{nil, f.Name, o.m.mark(o.ctx, f, val)})
			}
		}
	}
	for i, rv := range found {
		rec := o.m.recordOf(rv)
		o.done = append(o.done, func() { rec.load = &load{row: o.rows[i].ref()}; o.tx.make(rec.ID) })
	}
	return true, nil
}

func destLen(rv reflect.Value) int {
	switch rv.Kind() {
	case reflect.Slice, reflect.Array:
		return rv.Len()
	case reflect.Struct:
		return 1
	}
	return 0
}

// insertColumns returns the columns that Select and Omit leave, nil for all,
// and adds the record's own to a Select.
func (o *op) insertColumns() (map[string]bool, error) {
	stmt := o.db.Statement
	if len(stmt.Selects) > 0 {
		own := []string{"ID", "TenantID", "Version", "CreatedAt", "UpdatedAt"}
		if o.m.subject != nil {
			own = append(own, o.m.subject.Name)
		}
		stmt.Selects = append(slices.Clone(stmt.Selects), own...)
	}
	if len(stmt.Selects) == 0 && len(stmt.Omits) == 0 {
		return nil, nil
	}
	selected, restricted := stmt.SelectAndOmitColumns(true, false)
	columns := map[string]bool{}
	for _, f := range o.m.schema.Fields {
		if f.DBName == "" {
			continue
		}
		v, ok := selected[f.DBName]
		columns[f.DBName] = ok && v || !ok && !restricted
		if !columns[f.DBName] && (hasPrefix(f.StructField.Index, o.m.record) || f == o.m.subject) {
			return nil, o.m.refuse("create", "Omit names "+f.Name, "leave storage's own columns to storage")
		}
	}
	return columns, nil
}

// newRow fills in the Record of a new row.
func (o *op) newRow(rv reflect.Value) (*row, error) {
	rec := o.m.recordOf(rv)
	o.keep(rec)
	tenant := o.scope.Principal().Tenant
	switch rec.TenantID {
	case "":
		rec.TenantID = tenant
	case tenant:
	default:
		err := &access.DeniedError{Action: access.Create, Resource: o.m.name, Code: access.DenyTenant}
		o.rows = append(o.rows, &row{model: o.m, tenant: tenant})
		return nil, errors.Join(err, o.recordDenied(audit.ReasonPolicy, err.Code, "", nil))
	}
	if rec.ID == "" {
		rec.ID = o.cfg.NewID()
	}
	if !isUUID(rec.ID) {
		return nil, o.m.refuse("create", "Record.ID is not a UUID in lower case", "leave it empty: storage makes a version 7")
	}
	rec.Version = 1
	if f := o.m.schema.LookUpField("MergedInto"); f != nil && o.m.isMergedInto(f) {
		_ = f.Set(o.ctx, rv, "")
	}
	if err := o.inherit(rv); err != nil {
		return nil, err
	}
	subject := o.m.subjectOf(o.ctx, rv)
	if o.m.subject != nil && !isUUID(subject) {
		return nil, o.m.refuse("create", "the subject field "+o.m.subject.Name+" is empty or no record ID", "set it to the patient's ID")
	}
	return &row{model: o.m, tenant: tenant, record: rec.ID, subject: subject, version: 1}, nil
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// lock selects the rows that the statement will touch, in scope and locked for
// the rest of the transaction, as they are stored now.
func (o *op) lock(ids []string) (reflect.Value, error) {
	var none reflect.Value
	stmt := o.db.Statement
	if err := o.checkConditions(); err != nil {
		return none, err
	}
	q := &search{}
	if err := o.resolve(o.db, o.m, q); err != nil {
		return none, err
	}
	f, err := o.filter(o.asking(o.ctx, o.tx), o.action, o.m)
	if err != nil {
		return none, err
	}
	inReach, err := o.reachBy(o.m, f, q)
	if err != nil {
		return none, err
	}
	q.own.collectFrom(stmt)
	var where []clause.Expression
	if c, ok := stmt.Clauses["WHERE"]; ok {
		if w, ok := c.Expression.(clause.Where); ok && len(w.Exprs) > 0 {
			where = append(where, brackets{w})
		}
	}
	if len(ids) > 0 {
		list := make([]any, len(ids))
		for i, id := range ids {
			list[i] = id
		}
		where = append(where, clause.IN{Column: clause.Column{Table: clause.CurrentTable, Name: o.m.schema.PrioritizedPrimaryField.DBName}, Values: list})
	}
	if len(where) == 0 && !stmt.AllowGlobalUpdate {
		return none, gorm.ErrMissingWhereClause
	}
	slice := reflect.New(reflect.SliceOf(o.m.typ))
	db := o.own(o.ctx, &built{ConnPool: o.tx.Tx, check: o.m.checkSelect(o.db, q)}).Model(reflect.New(o.m.typ).Interface())
	if stmt.Unscoped {
		db = db.Unscoped()
	}
	for _, e := range append(where, inReach...) {
		db = db.Where(e)
	}
	err = db.Clauses(clause.Locking{Strength: "UPDATE"}).Order(clause.OrderByColumn{Column: clause.Column{Table: clause.CurrentTable, Name: o.m.schema.PrioritizedPrimaryField.DBName}}).
		Limit(maxRows + 1).Find(slice.Interface()).Error
	if err != nil {
		return none, err
	}
	rows := slice.Elem()
	if rows.Len() > maxRows {
		return none, o.m.refuse(string(o.action), fmt.Sprintf("it would touch more than %d records", maxRows), "narrow the condition, or work through them in batches")
	}
	for i := range rows.Len() {
		o.rows = append(o.rows, o.m.rowOf(o.ctx, rows.Index(i)))
	}
	return rows, o.searched(q)
}

// searched records the search that chose the rows: how many a write touches
// tells what it found, also where it then writes nothing.
func (o *op) searched(q *search) error {
	if len(q.fields) == 0 {
		return nil
	}
	ev := audit.Event{Type: audit.Searched, Outcome: audit.Success, Reason: q.reason(), Action: access.Search, Count: len(o.rows)}
	for _, r := range o.rows {
		ev.Objects = append(ev.Objects, audit.Object{Type: o.m.name, Tenant: r.tenant, Record: r.record, Patient: r.subject, Version: r.version, Fields: q.fields})
	}
	if len(ev.Objects) == 0 {
		ev.Objects = []audit.Object{{Type: o.m.name, Fields: q.fields}}
	}
	if _, err := o.cfg.Audit.Record(o.ctx, ev); err != nil {
		return fmt.Errorf("storage: %s %s: %w", o.action, o.m.table, err)
	}
	return nil
}

// checkConditions refuses clauses that would make the locked rows differ from
// the rows that the app means.
func (o *op) checkConditions() error {
	stmt := o.db.Statement
	if len(stmt.Joins) > 0 {
		return o.m.refuse(string(o.action), "a join", "select the records first, then write them by ID")
	}
	for _, name := range []string{"LIMIT", "ORDER BY", "GROUP BY", "FROM"} {
		if _, ok := stmt.Clauses[name]; ok {
			return o.m.refuse(string(o.action), name, "select the records first, then write them by ID")
		}
	}
	return nil
}

// narrow makes the statement run against exactly the locked rows.
func (o *op) narrow() {
	ids := make([]any, len(o.rows))
	for i, r := range o.rows {
		ids[i] = r.record
	}
	col := func(name string) clause.Column { return clause.Column{Table: clause.CurrentTable, Name: name} }
	o.db.Statement.Clauses["WHERE"] = clause.Clause{Name: "WHERE", Expression: clause.Where{Exprs: []clause.Expression{
		clause.IN{Column: col(o.m.schema.PrioritizedPrimaryField.DBName), Values: ids},
		clause.Eq{Column: col(o.m.schema.LookUpField("TenantID").DBName), Value: o.scope.Principal().Tenant},
	}}}
}

// delete prepares a DELETE, soft or hard.
func (p *plugin) delete(o *op) (bool, error) {
	o.action = access.Delete
	stmt := o.db.Statement
	named := o.named(stmt.ReflectValue)
	if stmt.Model != nil && !sameModel(stmt) {
		named = append(named, o.named(reflect.ValueOf(stmt.Model))...)
	}
	if _, err := o.lock(idsOf(named)); err != nil {
		return false, err
	}
	if err := o.sameVersions(named); err != nil {
		return false, err
	}
	if len(o.rows) == 0 {
		return false, nil
	}
	if err := o.allow(); err != nil {
		return false, err
	}
	soft := len(o.m.schema.DeleteClauses) > 0 && !stmt.Unscoped
	for _, r := range o.rows {
		if !soft {
			o.drop[r] = nil
		}
		for _, column := range deletedColumns(o.m) {
			if soft { // the trail tells it from a hard one by the fields
				o.changes[r] = append(o.changes[r], change{nil, o.m.schema.LookUpField(column).Name, nil})
			}
		}
	}
	o.narrow()
	return true, nil
}

// named returns the Records with an ID in a value of the model.
func (o *op) named(rv reflect.Value) []*Record {
	var out []*Record
	for rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	_ = eachRow(rv, o.m.typ, func(v reflect.Value) error {
		if r := o.m.recordOf(v); r.ID != "" {
			out = append(out, r)
		}
		return nil
	})
	return out
}

func idsOf(records []*Record) []string {
	var ids []string
	for _, r := range records {
		ids = append(ids, r.ID)
	}
	return ids
}

// sameVersions refuses the write where the app read an older version of a row
// than is stored, or the row is no longer there.
func (o *op) sameVersions(read []*Record) error {
	stored := make(map[string]int64, len(o.rows))
	for _, r := range o.rows {
		stored[r.record] = r.version
	}
	for _, r := range read {
		v, ok := stored[r.ID]
		if r.Version != 0 && (!ok || v != r.Version) {
			return ErrConflict
		}
		if r.Version != 0 && r.TenantID != "" && r.TenantID != o.scope.Principal().Tenant {
			return ErrConflict
		}
	}
	return nil
}

// writeEach writes the cells of one value for several rows: each is sealed for
// its own row.
func (o *op) writeEach() error {
	for _, r := range o.rows {
		set := map[string]any{}
		for _, s := range o.each[r] {
			set[s.field.DBName] = s.cell.raw
		}
		if len(set) == 0 {
			continue
		}
		tenant, id := o.m.schema.LookUpField("TenantID").DBName, o.m.schema.PrioritizedPrimaryField.DBName
		tx := o.own(o.ctx, o.tx.Tx).Table(o.m.table).Where(clause.Eq{Column: tenant, Value: r.tenant}, clause.Eq{Column: id, Value: r.record}).Updates(set)
		if tx.Error != nil {
			return tx.Error
		}
		if tx.RowsAffected != 1 {
			return ErrConflict
		}
	}
	return nil
}

// writeIndex replaces the search tokens of the rows written.
func (o *op) writeIndex() error {
	o.asked.index = true
	for r, fields := range o.drop {
		db := o.own(o.ctx, o.tx.Tx).Where("tenant_id = ? AND record_id = ?", r.tenant, r.record)
		if fields != nil {
			db = db.Where("field IN ?", o.m.withFormer(fields))
		}
		if err := db.Delete(&indexRow{}).Error; err != nil {
			return fmt.Errorf("storage: delete from phi_index: %w", err)
		}
	}
	var rows []indexRow
	for _, r := range o.rows {
		rows = append(rows, o.tokens[r]...)
	}
	if len(rows) == 0 {
		return nil
	}
	if err := o.taken(rows); err != nil {
		return err
	}
	return o.clean("insert into", "phi_index", o.own(o.ctx, o.tx.Tx).CreateInBatches(rows, 500).Error)
}
