// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// A pool is the database's connection pool with an eye on what runs: a
// statement that names a PHI table and was not built by the plugin is refused,
// and transactions carry their keys and outbox tickets.
type pool struct {
	gorm.ConnPool
	plugin  *plugin
	tenants sync.Map      // that have keys, as far as this process knows
	making  chan struct{} // held by whoever makes a tenant's first keys
}

var (
	_ gorm.ConnPoolBeginner = (*pool)(nil)
	_ gorm.GetDBConnector   = (*pool)(nil)
	_ gorm.Tx               = (*txConn)(nil)
)

// GetDBConn implements gorm.GetDBConnector.
func (c *pool) GetDBConn() (*sql.DB, error) {
	if db, ok := c.ConnPool.(*sql.DB); ok {
		return db, nil
	}
	if g, ok := c.ConnPool.(gorm.GetDBConnector); ok {
		return g.GetDBConn()
	}
	return nil, gorm.ErrInvalidDB
}

// BeginTx implements gorm.ConnPoolBeginner.
func (c *pool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	return c.begin(ctx, opts)
}

func (c *pool) begin(ctx context.Context, opts *sql.TxOptions) (*txConn, error) {
	if c.plugin.db.Name() == "mysql" && (opts == nil || opts.Isolation == sql.LevelDefault) {
		// Its default locks the gaps beside the rows that are read, so that
		// two writers of new patients deadlock, and does not see new keys.
		read := sql.TxOptions{Isolation: sql.LevelReadCommitted}
		if opts != nil {
			read.ReadOnly = opts.ReadOnly
		}
		opts = &read
	}
	if c.plugin.db.Name() == "mysql" && !opts.ReadOnly {
		c.firstKeys(ctx)
	}
	start := c.start
	if c.plugin.db.Name() == "sqlite" && ctx.Done() != nil {
		start = c.startOrGoOn
	}
	tx, err := start(ctx, opts)
	if err != nil {
		return nil, err
	}
	t := &txConn{Tx: tx, plugin: c.plugin, ctx: context.WithoutCancel(ctx)}
	t.keys = c.plugin.keys.Begin(&keyRows{plugin: c.plugin, conn: tx})
	return t, nil
}

// start begins a transaction of the driver's.
func (c *pool) start(ctx context.Context, opts *sql.TxOptions) (gorm.Tx, error) {
	switch b := c.ConnPool.(type) {
	case gorm.TxBeginner:
		return b.BeginTx(ctx, opts)
	case gorm.ConnPoolBeginner:
		cp, err := b.BeginTx(ctx, opts)
		if err != nil {
			return nil, err
		}
		if tx, ok := cp.(gorm.Tx); ok {
			return tx, nil
		}
	}
	return nil, gorm.ErrInvalidTransaction
}

// startOrGoOn is start for SQLite, whose wait for another writer does not end
// with the context: the caller goes on, and what still begins is rolled back.
func (c *pool) startOrGoOn(ctx context.Context, opts *sql.TxOptions) (gorm.Tx, error) {
	type started struct {
		tx  gorm.Tx
		err error
	}
	ch := make(chan started, 1)
	go func() {
		tx, err := c.start(ctx, opts)
		ch <- started{tx, err}
	}()
	select {
	case s := <-ch:
		return s.tx, s.err
	case <-ctx.Done():
		go func() {
			if s := <-ch; s.err == nil {
				_ = s.tx.Rollback()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

func (c *pool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := c.plugin.guard(ctx, query); err != nil {
		return nil, err
	}
	return c.ConnPool.ExecContext(ctx, query, args...)
}

func (c *pool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := c.plugin.guard(ctx, query); err != nil {
		return nil, err
	}
	return c.ConnPool.QueryContext(ctx, query, args...)
}

func (c *pool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return c.ConnPool.QueryRowContext(c.plugin.guardRow(ctx, query), query, args...)
}

func (c *pool) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := c.plugin.guard(ctx, query); err != nil {
		return nil, err
	}
	return c.ConnPool.PrepareContext(ctx, query)
}

// guard refuses a statement that the plugin did not build and that names a
// table with PHI, unless ctx was made by [Outside]. It looks into quotes and
// comments too: a function such as query_to_xml runs a string.
func (p *plugin) guard(ctx context.Context, query string) error {
	var table string
	words(query, func(w string, _ int) {
		if table == "" && w == escaped {
			table = w
		}
	})
	for w := range strings.FieldsFuncSeq(strings.ToLower(query), func(r rune) bool { return r < 0x80 && !isWord(byte(r)) }) {
		if table == "" && p.phi(w) {
			table = w
		}
	}
	if table == "" {
		return nil
	}
	if out, ok := ctx.Value(outsideKey{}).(*outside); ok {
		return out.record(ctx, p)
	}
	return &RefusedError{Op: "raw statement", Table: table, Why: "storage did not build it, so it is neither scoped nor sealed nor recorded", Mend: "use the model with GORM's methods, or storage.Outside(ctx, reason) for maintenance"}
}

// unbuilt runs a statement that the plugin did not build on a connection that
// looks at its text: also one that is not the pool's, as db.Connection gives,
// or that has prepared the text before.
func (p *plugin) unbuilt(db *gorm.DB, next func(*gorm.DB)) {
	stmt := db.Statement
	before := stmt.ConnPool
	defer func() { stmt.ConnPool = before }()
	outside := stmt.Context.Value(outsideKey{}) != nil
	if outside { // the cache would prepare it on a connection that nobody has measured
		stmt.ConnPool = unwrap(before)
	}
	switch stmt.ConnPool.(type) {
	case *pool, *txConn: // look by themselves
	default:
		if !isOwn(stmt) {
			stmt.ConnPool = &guarded{stmt.ConnPool, p}
		}
	}
	if outside {
		if err := p.fit(db); err != nil {
			_ = db.AddError(err)
			return
		}
	}
	next(db)
	if outside {
		db.Error = p.clean("raw statement", stmt.Table, db.Error)
	}
}

// fit refuses a statement on PHI whose session would print its arguments, or
// whose connection nobody has measured: another plugin's, or one of
// db.Connection that is no verified TLS.
func (p *plugin) fit(db *gorm.DB) error {
	stmt := db.Statement
	if reflect.TypeOf(db.Logger) == reflect.TypeOf(&logger.Recorder) {
		// GORM's Scan notes the statement with its arguments for the session's
		// logger, whatever that filters. The configuration is Scan's own.
		db.Logger = logger.Discard
	}
	if printsArguments(db.Logger) {
		return &RefusedError{Op: "statement", Table: stmt.Table, Why: "the session's logger prints the arguments of statements, which hold clear PHI", Mend: "set ParameterizedQueries in its Config, or use logger.Discard"}
	}
	v, measured := p.pool.ConnPool.(*verifiedDB)
	if !measured { // this machine, Development, or a deviation
		return nil
	}
	switch c := unwrap(stmt.ConnPool).(type) {
	case *pool, *txConn:
		return nil
	case *sql.Conn:
		return c.Raw(v.measure)
	}
	return &RefusedError{Op: "statement", Table: stmt.Table, Why: "it runs on a connection that is not the pool's, and that nobody has measured", Mend: "leave tables with PHI to the database that storage.Open opened"}
}

// A guarded is a connection on which the guard looks at each text.
type guarded struct {
	gorm.ConnPool
	plugin *plugin
}

func (g *guarded) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := g.plugin.guard(ctx, query); err != nil {
		return nil, err
	}
	return g.ConnPool.ExecContext(ctx, query, args...)
}

func (g *guarded) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := g.plugin.guard(ctx, query); err != nil {
		return nil, err
	}
	return g.ConnPool.QueryContext(ctx, query, args...)
}

func (g *guarded) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return g.ConnPool.QueryRowContext(g.plugin.guardRow(ctx, query), query, args...)
}

// guardRow is guard for QueryRow, which cannot return an error: a refused
// query runs on a context that has ended with it.
func (p *plugin) guardRow(ctx context.Context, query string) context.Context {
	if err := p.guard(ctx, query); err != nil {
		return ended(ctx, err)
	}
	return ctx
}

// ended returns a context that has ended with err.
func ended(ctx context.Context, err error) context.Context {
	done := make(chan struct{})
	close(done)
	return &endedContext{ctx, done, err}
}

type endedContext struct {
	context.Context
	done chan struct{}
	err  error
}

func (c *endedContext) Done() <-chan struct{} { return c.done }
func (c *endedContext) Err() error            { return c.err }

// A txConn is one database transaction with the keys made and the writes
// attempted in it.
type txConn struct {
	gorm.Tx
	plugin *plugin
	ctx    context.Context // of the beginning, never cancelled: for the record of its end
	keys   *crypto.KeyTx

	mu      sync.Mutex
	tickets []audit.Ticket
	undo    []func() // puts back what the app's structs held before a write
	after   []func() // what is done once the transaction is known to have committed
	marks   []mark
	depth   int             // savepoints of statements that are open
	made    map[string]bool // IDs of the records created in it
}

// A mark is a savepoint: how much there was.
type mark struct {
	name                 string
	tickets, undo, after int
}

// Commit implements gorm.TxCommitter. The keys made in the transaction are
// read again first, and serve others only once the commit is known.
func (t *txConn) Commit() error {
	if err := t.keys.Precommit(t.ctx); err != nil {
		return errors.Join(fmt.Errorf("storage: commit: %w", err), t.Rollback())
	}
	if err := t.Tx.Commit(); err != nil {
		return err // unknown: publish nothing, record nothing; storage.Check tells
	}
	t.keys.Publish()
	t.mu.Lock()
	n, after := len(t.tickets), t.after
	t.tickets, t.undo, t.after, t.marks = nil, nil, nil, nil
	t.mu.Unlock()
	for _, f := range after {
		f()
	}
	if n > 0 {
		t.plugin.relay.kick()
	}
	return nil
}

// Rollback implements gorm.TxCommitter.
func (t *txConn) Rollback() error {
	if err := t.Tx.Rollback(); err != nil {
		return err
	}
	t.mu.Lock()
	gone, undo := t.tickets, t.undo
	t.tickets, t.undo, t.after, t.marks = nil, nil, nil, nil
	t.mu.Unlock()
	return t.rolledBack(gone, undo)
}

func (t *txConn) rolledBack(tickets []audit.Ticket, undo []func()) error {
	for _, f := range slices.Backward(undo) {
		f()
	}
	if len(tickets) == 0 {
		return nil
	}
	return t.plugin.cfg.Audit.Rollback(t.ctx, tickets)
}

func (t *txConn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if verb, name := savepoint(query); verb != "" && verb != "end" {
		return t.savepoint(ctx, query, verb, name)
	}
	if err := t.guard(ctx, query); err != nil {
		return nil, err
	}
	return t.Tx.ExecContext(ctx, query, args...)
}

// guard also refuses texts that would end the transaction, or set savepoints,
// behind our back.
func (t *txConn) guard(ctx context.Context, query string) error {
	if verb, _ := savepoint(query); verb != "" {
		return &RefusedError{Op: "raw statement", Why: "a transaction is steered by text", Mend: "use db.Transaction, or Begin, SavePoint, RollbackTo, Commit and Rollback"}
	}
	return t.plugin.guard(ctx, query)
}

func (t *txConn) savepoint(ctx context.Context, query, verb, name string) (sql.Result, error) {
	res, err := t.Tx.ExecContext(ctx, query)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	var gone []audit.Ticket
	var undo []func()
	switch verb {
	case "savepoint":
		t.marks = append(t.marks, mark{name, len(t.tickets), len(t.undo), len(t.after)})
		t.keys.Savepoint(name)
	case "release":
		if i := t.mark(name); i >= 0 {
			t.marks = t.marks[:i]
		}
		t.keys.Release(name)
	case "rollback":
		if i := t.mark(name); i >= 0 {
			m := t.marks[i]
			gone, undo = slices.Clone(t.tickets[m.tickets:]), slices.Clone(t.undo[m.undo:])
			t.tickets, t.undo, t.after, t.marks = t.tickets[:m.tickets], t.undo[:m.undo], t.after[:m.after], t.marks[:i+1]
		}
		t.keys.RollbackTo(name)
	}
	t.mu.Unlock()
	return res, t.rolledBack(gone, undo)
}

// mark returns the index of the newest savepoint of a name, or -1.
func (t *txConn) mark(name string) int {
	for i := len(t.marks) - 1; i >= 0; i-- {
		if t.marks[i].name == name {
			return i
		}
	}
	return -1
}

func (t *txConn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := t.guard(ctx, query); err != nil {
		return nil, err
	}
	return t.Tx.QueryContext(ctx, query, args...)
}

func (t *txConn) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if err := t.guard(ctx, query); err != nil {
		ctx = ended(ctx, err)
	}
	return t.Tx.QueryRowContext(ctx, query, args...)
}

func (t *txConn) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := t.guard(ctx, query); err != nil {
		return nil, err
	}
	return t.Tx.PrepareContext(ctx, query)
}

// add keeps the ticket of a write until the transaction ends.
func (t *txConn) add(ticket audit.Ticket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tickets = append(t.tickets, ticket)
}

// make notes a record as created in this transaction.
func (t *txConn) make(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made == nil {
		t.made = map[string]bool{}
	}
	t.made[id] = true
}

func (t *txConn) wasMade(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.made[id]
}

// onRollback keeps what puts the app's structs back if the transaction, or the
// savepoint, does not last: their cells are sealed by keys that are gone then,
// and a retry needs the values.
func (t *txConn) onRollback(undo []func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.undo = append(t.undo, undo...)
}

// onCommit keeps what is done once the transaction has committed, unless the
// savepoint it is in does not last.
func (t *txConn) onCommit(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.after = append(t.after, f)
}

// savepoint recognises the statements that GORM and people use: "savepoint",
// "release" and "rollback" with the name, "end" for any other that would steer
// the transaction behind our back.
func savepoint(query string) (verb, name string) {
	text := strings.TrimRight(strings.TrimSpace(query), ";")
	f := strings.Fields(text)
	if len(f) == 0 {
		return "", ""
	}
	is := func(i int, w string) bool { return i < len(f) && strings.EqualFold(f[i], w) }
	last := strings.Trim(f[len(f)-1], "\"`")
	var all []string
	plain := words(text, func(w string, _ int) { all = append(all, w) })
	switch {
	case !plain:
	case is(0, "SAVEPOINT") && len(f) == 2:
		return "savepoint", last
	case is(0, "RELEASE") && len(f) <= 3:
		return "release", last
	case is(0, "ROLLBACK") && len(f) <= 5 && (is(1, "TO") || is(2, "TO")):
		return "rollback", last
	}
	for i, w := range all {
		switch w {
		case "begin", "end", "start":
			if i == 0 && !is(0, "CREATE") {
				return "end", ""
			}
		case "commit", "rollback", "savepoint", "release", "abort":
			if i == 0 || !plain && !is(0, "CREATE") {
				return "end", ""
			}
		}
	}
	return "", ""
}

// A built is the connection of one statement that the plugin built: it runs
// once check has found nothing against its text.
type built struct {
	gorm.ConnPool
	check func(query string) error
}

func (b *built) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := b.check(query); err != nil {
		return nil, err
	}
	return b.ConnPool.ExecContext(ctx, query, args...)
}

// QueryContext asks again where a connection has kept PostgreSQL's plan of a
// table whose columns have changed: the driver forgets it with the error, and
// each connection has its own. A transaction is over by then.
func (b *built) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := b.check(query); err != nil {
		return nil, err
	}
	rows, err := b.ConnPool.QueryContext(ctx, query, args...)
	_, inTx := b.ConnPool.(gorm.Tx)
	for i := 0; !inTx && i < 10 && isStalePlan(err); i++ {
		rows, err = b.ConnPool.QueryContext(ctx, query, args...)
	}
	return rows, err
}

func isStalePlan(err error) bool {
	state, _, _ := answer(err)
	return state == stalePlan
}

// unwrap returns the wrapped connection under GORM's statement cache, and under
// the guard of a text. The cache is left out for PHI: it would run a prepared
// text past the guard.
func unwrap(c gorm.ConnPool) gorm.ConnPool {
	for {
		switch v := c.(type) {
		case *gorm.PreparedStmtDB:
			c = v.ConnPool
		case *gorm.PreparedStmtTX:
			c = v.Tx
		case *guarded:
			c = v.ConnPool
		default:
			return c
		}
	}
}

// inner returns the driver's own connection under ours, for the plugin's own
// statements.
func inner(c gorm.ConnPool) gorm.ConnPool {
	switch v := unwrap(c).(type) {
	case *pool:
		return v.ConnPool
	case *txConn:
		return v.Tx
	default:
		return v
	}
}

const ownKey = "part164:own"

// own returns a session for the plugin's own statements on a connection: it
// is not scoped, not recorded, and logs nothing. The mark is on its statements
// and not in their context, which an app's callback hands on to its own.
func (p *plugin) own(ctx context.Context, conn gorm.ConnPool) *gorm.DB {
	db := p.db.Session(&gorm.Session{NewDB: true, SkipDefaultTransaction: true, SkipHooks: true, Logger: logger.Discard, Context: ctx}).Set(ownKey, true)
	db.Statement.ConnPool = conn
	return db.Session(&gorm.Session{})
}

func isOwn(stmt *gorm.Statement) bool {
	_, ok := stmt.Settings.Load(ownKey)
	return ok
}

type txKey struct{}

// InTx returns a context in which Reveal reads keys on the open transaction
// tx, so that it sees those made in it.
func InTx(ctx context.Context, tx *gorm.DB) context.Context {
	if ctx == nil {
		ctx = context.Background()
	}
	if tx == nil || tx.Statement == nil {
		return ctx
	}
	if t, ok := unwrap(tx.Statement.ConnPool).(*txConn); ok {
		return context.WithValue(ctx, txKey{}, t)
	}
	return ctx
}

type outsideKey struct{}

// An outside is the permission of [Outside], recorded once.
type outside struct {
	reason audit.Reason
	once   sync.Once
	err    error
}

// Outside returns a context whose statements may name PHI tables although
// storage did not build them: for maintenance by SQL. The reason is one of
// audit's for it: ReasonMigration, ReasonRotation, ReasonRebuild, ReasonRename,
// ReasonBackOut, ReasonMerge, ReasonUnmerge, ReasonRepair or ReasonIncident.
//
// The first statement records an event; with another reason, without a
// principal in ctx, or if it cannot be recorded, all are refused. What they
// return stays sealed until [Bind] has checked each row.
func Outside(ctx context.Context, reason audit.Reason) context.Context {
	if ctx == nil { // who is not known, which the first statement says
		ctx = context.Background()
	}
	return context.WithValue(ctx, outsideKey{}, &outside{reason: reason})
}

func (o *outside) record(ctx context.Context, p *plugin) error {
	o.once.Do(func() {
		switch o.reason {
		case audit.ReasonMigration, audit.ReasonRotation, audit.ReasonRebuild, audit.ReasonRename, audit.ReasonBackOut,
			audit.ReasonMerge, audit.ReasonUnmerge, audit.ReasonRepair, audit.ReasonIncident:
			_, o.err = p.recordAs(ctx, audit.Event{Type: audit.Outside, Outcome: audit.Success, Reason: o.reason})
		default:
			o.err = &RefusedError{Op: "raw statement", Why: "the reason given to storage.Outside is none of those for maintenance", Mend: "say why: audit.ReasonMigration, ReasonRepair, ReasonIncident or another that Outside lists"}
		}
	})
	return o.err
}
