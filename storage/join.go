// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
)

// A joined is a model with PHI that a statement joins by an association: its
// rows are in reach by the ON clause.
type joined struct {
	model   *model
	path    []*schema.Relationship // from the model that is read
	name    string                 // of the path
	alias   string
	on      []clause.Expression
	columns map[string]bool // nil: all
	clear   []*field
}

// joined finds what a statement joins. A join of an association is scoped by
// its ON; one by text may name no table with PHI.
func (r *reading) joined(stmt *gorm.Statement) error {
	from, _ := stmt.Clauses["FROM"].Expression.(clause.From)
	if len(stmt.Joins) == 0 && len(from.Joins) == 0 {
		return nil
	}
	r.allowed, r.aliases = map[string]int{}, map[string]string{}
	for i, j := range from.Joins { // as Association.Find makes them
		l := r.linkNamed(j.Table.Name)
		switch {
		case j.Expression == nil && l == nil && !r.phi(strings.ToLower(j.Table.Name)):
		case j.Expression == nil && l != nil && j.Table.Alias == "" && inwards(j.Type):
			exprs, err := r.linkReach(r.ctx, access.Read, l, &r.q.own)
			if err != nil {
				return err
			}
			r.allowed[strings.ToLower(l.table)]++
			for _, e := range exprs {
				r.allowed[e.m.bare()]++
			}
			from.Joins = slices.Clone(from.Joins)
			on := []clause.Expression{brackets{j.ON}}
			for _, e := range exprs {
				on = append(on, e)
			}
			from.Joins[i].ON = clause.Where{Exprs: on}
			c := stmt.Clauses["FROM"]
			c.Expression = from
			stmt.Clauses["FROM"] = c
		default:
			if e, ok := j.Expression.(clause.Expr); ok && joinsByText(e.SQL) {
				continue // its names are looked at
			}
			return r.refuse("a join that storage does not scope", "use Joins of an association, or Preload")
		}
	}
	r.steps = steps(stmt)
	guarded := r.main != nil
	text := ""
	for _, j := range r.steps {
		if j.path == nil {
			if !joinsByText(j.Name) {
				text = j.Name
			}
			continue
		}
		rel := j.path[len(j.path)-1]
		m, err := r.modelFor(rel.FieldSchema)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		guarded = true
		switch {
		case rel.Type != schema.BelongsTo && rel.Type != schema.HasOne:
			return r.refuse("a join of many records into one", "use Preload for "+rel.Name)
		case j.Expression != nil:
			return r.refuse("a joined subquery", "use Joins of the association, or Preload")
		case !inwards(j.JoinType):
			return r.refuse("a join that keeps rows of the joined table which are out of reach", "use Joins or InnerJoins")
		case r.phi(strings.ToLower(j.alias)):
			return r.refuse("a joined table called as a table with PHI", "give it another name")
		}
		f, err := r.filter(r.ctx, access.Read, m)
		if err != nil {
			return err
		}
		on, err := r.reach(m, f, clause.CurrentTable, &r.q.own)
		if err != nil {
			return err
		}
		t := &joined{model: m, path: j.path, name: j.Name, alias: j.alias, on: on, clear: m.clear}
		if len(j.Selects)+len(j.Omits) > 0 {
			t.limit(stmt, j.Selects, j.Omits)
		}
		r.joins = append(r.joins, t)
		r.allowed[m.bare()]++
		r.aliases[strings.ToLower(j.alias)] = m.bare()
	}
	if guarded && text != "" { // it could go on with the condition of the join before it
		return r.refuse("a join by text that does not begin with JOIN", "begin it with JOIN, LEFT JOIN or INNER JOIN, or use an association")
	}
	return nil
}

// A joinOf is one of GORM's joins, whose type has no name here.
type joinOf = struct {
	Name       string
	Alias      string
	Conds      []any
	On         *clause.Where
	Selects    []string
	Omits      []string
	Expression clause.Expression
	JoinType   clause.JoinType
}

// A step is a join of one association, or by text.
type step struct {
	joinOf
	path  []*schema.Relationship // nil: by text
	alias string                 // what GORM will call the table
}

// steps are the joins of a statement. A path of several associations is a step
// for each, so that each has an ON of its own.
func steps(stmt *gorm.Statement) []step {
	if stmt.Schema == nil {
		return nil
	}
	named := map[string]joinOf{}
	for _, j := range stmt.Joins {
		named[j.Name] = j
	}
	var out []step
	called := map[string]string{} // by path, as GORM does before an app's alias
	for _, j := range stmt.Joins {
		path := relations(stmt.Schema, j.Name)
		if path == nil {
			out = append(out, step{joinOf: j})
		}
		for n := range path {
			name := pathName(path[:n+1])
			if called[name] != "" {
				continue
			}
			called[name] = path[n].Name
			if n > 0 {
				called[name] = called[pathName(path[:n])] + "__" + path[n].Name
			}
			one, own := named[name]
			if !own {
				one = joinOf{Name: name, JoinType: j.JoinType}
			}
			alias := called[name]
			if one.Alias != "" {
				alias = one.Alias
			}
			out = append(out, step{one, path[:n+1], alias})
		}
	}
	return out
}

// relations is the path that a name of Joins means, nil for a text.
func relations(s *schema.Schema, name string) []*schema.Relationship {
	if rel, ok := s.Relationships.Relations[name]; ok {
		return []*schema.Relationship{rel}
	}
	var path []*schema.Relationship
	for part := range strings.SplitSeq(name, ".") {
		rel, ok := s.Relationships.Relations[part]
		if !ok {
			return nil
		}
		path = append(path, rel)
		s = rel.FieldSchema
	}
	return path
}

func pathName(path []*schema.Relationship) string {
	names := make([]string, len(path))
	for i, rel := range path {
		names[i] = rel.Name
	}
	return strings.Join(names, ".")
}

// inwards reports whether a type of join keeps no row of the joined table that
// its ON does not take.
func inwards(t clause.JoinType) bool {
	switch strings.ToUpper(string(t)) {
	case "", "LEFT", "INNER", "LEFT OUTER":
		return true
	}
	return false
}

// joinsByText reports whether a text begins as a join.
func joinsByText(text string) bool {
	text = strings.TrimSpace(text)
	if text == "" || !isWord(text[0]) {
		return false
	}
	n, is := 0, false
	words(text, func(w string, _ int) {
		if n < 0 {
			return
		}
		n++
		switch w {
		case "left", "right", "full", "inner", "outer", "cross":
			return
		case "join":
			is = true
		}
		n = -1
	})
	return is
}

// limit notes which columns of a joined table are read: those that say which
// record it is are always.
func (t *joined) limit(stmt *gorm.Statement, selects, omits []string) {
	s := gorm.Statement{Table: t.alias, DB: stmt.DB, Schema: t.model.schema, Selects: t.selects(selects), Omits: t.omits(omits)}
	selected, restricted := s.SelectAndOmitColumns(false, false)
	t.columns, t.clear = map[string]bool{}, nil
	for _, name := range t.model.schema.DBNames {
		v, ok := selected[name]
		t.columns[name] = ok && v || !ok && !restricted
	}
	for _, f := range t.model.clear {
		if t.columns[f.DBName] {
			t.clear = append(t.clear, f)
		}
	}
}

// identity are the columns that say which record a row is.
func (m *model) identity() []string {
	out := []string{m.schema.PrioritizedPrimaryField.DBName, m.schema.LookUpField("TenantID").DBName, m.schema.LookUpField("Version").DBName}
	if m.subject != nil {
		out = append(out, m.subject.DBName)
	}
	return out
}

func (t *joined) selects(selects []string) []string {
	if len(selects) == 0 {
		return nil
	}
	return append(slices.Clone(selects), t.model.identity()...)
}

func (t *joined) omits(omits []string) []string {
	own := t.model.identity()
	return slices.DeleteFunc(slices.Clone(omits), func(o string) bool {
		f := t.model.schema.LookUpField(o)
		return f != nil && slices.Contains(own, f.DBName)
	})
}

// join puts the reach of the joined tables into their ON.
func (r *reading) join(stmt *gorm.Statement) {
	if len(r.joins) == 0 {
		return
	}
	out := stmt.Joins[:0:0]
	for _, s := range r.steps {
		j := s.joinOf
		for _, t := range r.joins {
			if s.path == nil || t.name != j.Name {
				continue
			}
			exprs := t.on
			if j.On != nil {
				exprs = append([]clause.Expression{brackets{*j.On}}, exprs...)
			}
			j.On = &clause.Where{Exprs: exprs}
			j.Selects, j.Omits = t.selects(j.Selects), t.omits(j.Omits)
		}
		out = append(out, j)
	}
	stmt.Joins = out
}

// deliverJoined binds the joined records of a row.
func (r *reading) deliverJoined(rv reflect.Value, rec *recording) error {
	for _, t := range r.joins {
		v := rv
		for _, rel := range t.path {
			v = rel.Field.ReflectValueOf(r.ctx, v)
			for v.Kind() == reflect.Pointer && !v.IsNil() {
				v = v.Elem()
			}
			if v.Kind() == reflect.Pointer {
				break
			}
		}
		if v.Kind() != reflect.Struct || v.Type() != t.model.typ || t.model.recordOf(v).ID == "" {
			continue // there is none
		}
		row := t.model.bind(r.ctx, v, t.columns)
		if len(t.clear) == 0 {
			continue
		}
		names := make([]string, len(t.clear))
		for i, f := range t.clear {
			names[i] = f.Name
		}
		rec.add(row, names, true)
	}
	return nil
}
