// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A link is a join table of a many2many relation with a model that holds PHI.
// It has IDs only, but who is linked to what may be PHI itself: its rows are in
// scope where the records that they link are.
type link struct {
	table string
	ends  map[string]*model // by column
}

// learnLinks finds the join tables of a schema.
func (p *plugin) learnLinks(s *schema.Schema) error {
	for _, rel := range s.Relationships.Many2Many {
		if rel.JoinTable == nil || rel.FieldSchema == nil {
			continue
		}
		if jm, err := p.modelFor(rel.JoinTable); err != nil || jm != nil {
			if err != nil {
				return err
			}
			continue // a model with PHI of its own
		}
		ends := map[string]*model{}
		for _, ref := range rel.References {
			of := rel.FieldSchema
			if ref.OwnPrimaryKey {
				of = s
			}
			m, err := p.modelFor(of)
			if err != nil {
				return err
			}
			if m != nil && ref.PrimaryKey == m.schema.PrioritizedPrimaryField {
				ends[ref.ForeignKey.DBName] = m
			}
		}
		if len(ends) == 0 {
			continue
		}
		name := strings.ToLower(rel.JoinTable.Table)
		p.models.mu.Lock()
		l := &link{table: rel.JoinTable.Table, ends: ends}
		if old := p.models.links[name]; old != nil {
			for c, m := range old.ends {
				ends[c] = m
			}
		}
		p.models.links[name] = l
		p.models.mu.Unlock()
	}
	return nil
}

// linkOf returns the join table that a statement is on, or nil.
func (p *plugin) linkOf(stmt *gorm.Statement) *link {
	if stmt.Schema == nil {
		return nil
	}
	return p.linkNamed(stmt.Schema.Table)
}

func (p *plugin) linkNamed(table string) *link {
	p.models.mu.RLock()
	defer p.models.mu.RUnlock()
	return p.models.links[strings.ToLower(table)]
}

func (l *link) refuse(op, why, mend string) error {
	return &RefusedError{Op: op, Table: l.table, Why: why, Mend: mend}
}

// linkReach is the condition that both ends of a row are in reach.
func (p *plugin) linkReach(ctx context.Context, action access.Action, l *link, own *ownTexts) ([]inReach, error) {
	var out []inReach
	for column, m := range l.ends {
		f, err := p.filter(ctx, action, m)
		if err != nil {
			return nil, err
		}
		where, err := p.reach(m, f, m.table, own)
		if err != nil {
			return nil, err
		}
		out = append(out, inReach{clause.Column{Table: l.table, Name: column}, m, where})
	}
	return out, nil
}

// inReach is column IN (SELECT id FROM table WHERE reach).
type inReach struct {
	column clause.Column
	m      *model
	where  []clause.Expression
}

// Build implements clause.Expression.
func (e inReach) Build(b clause.Builder) {
	b.WriteQuoted(e.column)
	_, _ = b.WriteString(" IN (SELECT ")
	b.WriteQuoted(clause.Column{Table: e.m.table, Name: e.m.schema.PrioritizedPrimaryField.DBName})
	_, _ = b.WriteString(" FROM ")
	b.WriteQuoted(clause.Table{Name: e.m.table})
	_, _ = b.WriteString(" WHERE ")
	clause.Where{Exprs: e.where}.Build(b)
	_ = b.WriteByte(')')
}

// checkLink looks at the text of a statement on a join table: it names the
// tables of its ends as often as storage put them there, and no other.
func (p *plugin) checkLink(l *link, exprs []inReach, own *ownTexts) func(string) error {
	return func(query string) error {
		query = own.without(query)
		allowed := map[string]int{}
		for _, e := range exprs {
			allowed[e.m.bare()]++
		}
		var bad error
		plain := scan(query, func(w string, _, end int) {
			switch {
			case bad != nil || w == strings.ToLower(l.table):
			case p.phi(w):
				if n, ok := allowed[w]; ok && beforeColumn(query[end:]) {
					return
				} else if allowed[w]--; n < 1 {
					bad = l.refuse("statement", "it names another table with PHI", "use Preload, or two queries")
				}
			case called(query[end:]) && w != "values" && w != strings.ToLower(l.table) && !mayCall(w):
				bad = l.refuse("statement", "a call of "+w, "compute the value in the program and pass it as a parameter")
			}
		})
		if bad == nil && !plain {
			bad = l.refuse("statement", notPlain, "pass values as parameters")
		}
		return bad
	}
}

// queryLink runs a SELECT on a join table.
func (p *plugin) queryLink(db *gorm.DB, l *link, next func(*gorm.DB)) {
	stmt := db.Statement
	own := &ownTexts{}
	exprs, err := p.linkReach(p.asking(stmt.Context, stmt.ConnPool), access.Read, l, own)
	if err != nil {
		_ = db.AddError(err)
		return
	}
	bracket(stmt)
	for _, e := range exprs {
		stmt.AddClause(clause.Where{Exprs: []clause.Expression{e}})
	}
	before := stmt.ConnPool
	stmt.ConnPool = &built{ConnPool: inner(before), check: p.checkLink(l, exprs, own)}
	next(db)
	stmt.ConnPool = before
	db.Error = p.clean("query", l.table, db.Error)
}

// writeLink inserts into a join table or deletes from it: the records that it
// links must be in reach and may be updated, and are recorded.
func (p *plugin) writeLink(db *gorm.DB, l *link, kind access.Action, next func(*gorm.DB)) {
	stmt := db.Statement
	tx, ok := unwrap(stmt.ConnPool).(*txConn)
	if !ok {
		_ = db.AddError(l.refuse("write", "it runs in no transaction of storage", "leave GORM's and storage's callbacks in place"))
		return
	}
	err := p.runLink(db, l, tx, kind, next)
	_ = db.AddError(err)
	db.Error = p.clean(string(kind), l.table, db.Error)
}

func (p *plugin) runLink(db *gorm.DB, l *link, tx *txConn, kind access.Action, next func(*gorm.DB)) error {
	stmt := db.Statement
	ctx := p.asking(stmt.Context, tx)
	if kind == access.Update {
		return l.refuse("update", "a row of a join table would link other records", "delete the link and create another")
	}
	own := &ownTexts{}
	exprs, err := p.linkReach(ctx, access.Read, l, own)
	if err != nil {
		return err
	}
	ends := map[string][]string{} // IDs by column
	collect := func(rv reflect.Value) error {
		return eachRow(rv, stmt.Schema.ModelType, func(rv reflect.Value) error {
			for column := range l.ends {
				v, _ := stmt.Schema.LookUpField(column).ValueOf(ctx, rv)
				ends[column] = append(ends[column], fmt.Sprint(v))
			}
			return nil
		})
	}
	if kind == access.Create {
		if err := collect(stmt.ReflectValue); err != nil {
			return err
		}
		if n := destLen(stmt.ReflectValue); n == 0 || stmt.ReflectValue.Kind() == reflect.Map {
			return l.refuse("create", "the values are not the join table's model", "use Association or Create of the model")
		}
	} else {
		rows := reflect.New(reflect.SliceOf(stmt.Schema.ModelType))
		q := p.own(ctx, &built{ConnPool: tx.Tx, check: p.checkLink(l, exprs, own)}).Table(l.table).Model(reflect.New(stmt.Schema.ModelType).Interface())
		where, ok := stmt.Clauses["WHERE"].Expression.(clause.Where)
		if ok && len(where.Exprs) > 0 {
			q = q.Where(brackets{where})
		} else if !stmt.AllowGlobalUpdate {
			return gorm.ErrMissingWhereClause
		}
		for _, e := range exprs {
			q = q.Where(e)
		}
		if err := q.Limit(maxRows + 1).Find(rows.Interface()).Error; err != nil {
			return err
		}
		if rows.Elem().Len() > maxRows {
			return l.refuse("delete", fmt.Sprintf("it would touch more than %d links", maxRows), "narrow the condition")
		}
		if err := collect(rows.Elem()); err != nil {
			return err
		}
		bracket(stmt)
		for _, e := range exprs {
			stmt.AddClause(clause.Where{Exprs: []clause.Expression{e}})
		}
	}
	ev := audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: access.Update}
	var resources []access.Resource
	for column, ids := range ends {
		m := l.ends[column]
		there, err := p.identities(ctx, tx.Tx, m, access.Read, ids)
		if err != nil {
			return err
		}
		for _, id := range unique(ids) {
			r := there[id]
			if r == nil {
				denied := &access.DeniedError{Action: access.Update, Resource: m.name, Code: access.DenySubject}
				_, rerr := p.recordAs(ctx, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: access.Update, Code: denied.Code, Objects: []audit.Object{{Type: m.name, Record: id}}})
				return errors.Join(denied, rerr)
			}
			if !tx.wasMade(id) {
				resources = append(resources, access.Resource{Type: m.name, ID: r.record, Patient: r.subject, Tenant: r.tenant})
			}
			ev.Objects = append(ev.Objects, audit.Object{Type: m.name, Tenant: r.tenant, Record: r.record, Patient: r.subject, Fields: []string{l.table}, Digests: []string{noDigest}})
		}
	}
	if len(resources) > 0 {
		d, err := p.cfg.Access.Check(ctx, access.Request{Action: access.Update, Resources: resources})
		if err == nil && !d.AllowAll(len(resources)) {
			err = &access.DeniedError{Action: access.Update, Resource: resources[0].Type, Code: firstDenial(d, len(resources)), Decision: d.ID}
		}
		if err != nil {
			ev.Type, ev.Outcome, ev.Reason, ev.Code, ev.Decision = audit.Denied, audit.Failure, audit.ReasonPolicy, codeOf(err), d.ID
			for i := range ev.Objects {
				ev.Objects[i].Digests = nil
			}
			_, rerr := p.recordAs(ctx, ev)
			return errors.Join(err, rerr)
		}
	}
	if len(ev.Objects) > 0 {
		if err := p.propose(ctx, tx, l.table, ev); err != nil {
			return err
		}
	}
	before := stmt.ConnPool
	stmt.ConnPool = &built{ConnPool: tx.Tx, check: p.checkLink(l, exprs, own)}
	next(db)
	stmt.ConnPool = before
	return nil
}
