// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage/tombstone"
)

// Config configures [Open] and [New]. KEK, Audit, Access and Minimize are
// required.
type Config struct {
	KEK      crypto.KEK        // wraps the tenants' keys; a file KEK needs Development or a deviation from 164.312(a)(2)(iv)
	Audit    audit.Trail       // where every reveal, search and write is recorded
	Access   access.Authorizer // may this principal touch these records for this purpose?
	Minimize *minimize.Policy  // how much of each field?

	// KEKOutage bounds how long the records of a tenant go on being read and
	// written while KEK does not answer, beyond the 5 minutes that its keys are
	// kept anyway: crypto.Config.Outage. Zero means 1 hour.
	KEKOutage time.Duration

	// Development allows what no production may have: a file KEK, made where
	// it is missing, and a database on another machine without verified TLS.
	Development bool

	// Deviations documents each safe default that is not followed (45 CFR
	// 164.306(d)(3)). They are recorded at Open.
	Deviations []access.Deviation

	// RevealTTL bounds how long a revealed value can be read, beside the end
	// of its scope. Zero means 5 minutes.
	RevealTTL time.Duration

	// KeyBound is how long a key that was shredded, replaced or retired in one
	// process may still open in another. Zero means 5 seconds: one small query
	// in that time.
	KeyBound time.Duration

	// Holds are asked before a patient's data is destroyed ([Shred]): each may
	// forbid it.
	Holds []Hold

	// Retention is how long after the newest write to one of a patient's
	// records [Shred] refuses without an authority that overrides it. Zero
	// means six years. HIPAA sets no period for medical records; the states
	// do, and 42 CFR 482.24(b)(1) asks hospitals for five years: look yours
	// up. (The six years of 45 CFR 164.316(b)(2)(i) are for documentation.)
	Retention time.Duration

	// KeyBackups is how long copies of the table phi_subject_keys live, in
	// backups, in the database's log files and in the free space of its files:
	// so long a [Certificate] stays pending. Zero means that nobody knows, so
	// that it stays pending without a date; a negative value, that there are
	// no copies.
	KeyBackups time.Duration

	// Tombstones remembers, apart from the database, who was shredded, so that
	// an older copy put in its place is found: see [ErrRestored]. All
	// processes of a database share one, such as a tombstone.File on another
	// device. Nil means the audit trail, where it is an audit.History: one
	// node's trail then finds what that node has seen. Else nothing is found,
	// which is recorded as a deviation from 164.310(d)(2)(i).
	Tombstones tombstone.Log

	// SearchLimits is how many searches a principal may make in an hour, by
	// role: every [Match] and [SoundsLike], every [List], and every write that
	// comes to [ErrDuplicate]; give who imports data room for those. Who
	// has several of the roles has the highest of their limits; "" stands for
	// the roles that are not named, and without it they have 300. A limit of 0
	// allows none. From 80 % on searches are recorded with the reason "limit",
	// and Log has a warning; over it they are refused with [ErrSearchLimit], and
	// with them writes to unique fields of who had a duplicate in that hour.
	//
	// The count is kept in the process, for the 10,000 principals that searched
	// last: behind several processes a principal may make as many in each, and
	// a restart begins anew. The trail has every search of them all.
	SearchLimits map[string]int

	// NewID makes record IDs: UUIDs. Nil means version 7.
	NewID func() string

	// Now is the clock. Nil means time.Now.
	Now func() time.Time

	// Log is the SDK's own operational log. Nil is silent.
	Log *zap.Logger
}

// maxRows is how many records one write may touch; more is a job.
const maxRows = 10_000

const pluginName = "part164"

// Open opens a database whose models with phi tags are sealed, scoped and
// recorded. Call [Close] at the end: it settles what is left in the outbox.
//
// With [ErrRestored] it returns the database too: it serves [Reapply] and Close,
// and refuses everything else.
func Open(d gorm.Dialector, cfg Config) (*gorm.DB, error) {
	p, err := New(cfg)
	if err != nil {
		return nil, err
	}
	db, err := gorm.Open(d, &gorm.Config{Logger: logger.Discard, NowFunc: p.(*plugin).now})
	if err != nil {
		return nil, fmt.Errorf("storage: open: %w", err)
	}
	if err := db.Use(p); err != nil {
		if c, cerr := db.DB(); cerr == nil {
			_ = c.Close()
		}
		return nil, err
	}
	return db, p.(*plugin).restore.err()
}

// New returns the plugin that [Open] installs, for an app that opens GORM by
// itself and calls db.Use. Its error names the first bad field of cfg.
func New(cfg Config) (gorm.Plugin, error) {
	switch {
	case cfg.KEK == nil:
		return nil, errors.New("storage: Config.KEK is nil: crypto.LocalKEK in development, a KMS in production")
	case cfg.Audit == nil:
		return nil, errors.New("storage: Config.Audit is nil: audit.Open")
	case cfg.Access == nil:
		return nil, errors.New("storage: Config.Access is nil: rbac.Starter to start with")
	case cfg.Minimize == nil:
		return nil, errors.New("storage: Config.Minimize is nil: minimize.Starter to start with")
	case cfg.RevealTTL < 0:
		return nil, errors.New("storage: Config.RevealTTL is negative")
	case cfg.KeyBound < 0:
		return nil, errors.New("storage: Config.KeyBound is negative")
	case cfg.Retention < 0:
		return nil, errors.New("storage: Config.Retention is negative: zero means six years")
	case slices.Contains(cfg.Holds, nil):
		return nil, errors.New("storage: Config.Holds has a nil Hold")
	}
	for role, n := range cfg.SearchLimits {
		if n < 0 {
			return nil, fmt.Errorf("storage: Config.SearchLimits[%q] is negative: 0 allows no search", role)
		}
	}
	cfg.SearchLimits = maps.Clone(cfg.SearchLimits)
	deviations := cfg.Deviations
	if cfg.Development {
		deviations = append(deviations[:len(deviations):len(deviations)], access.Deviation{
			Citation: citationDevelopment, Reason: "development mode", Alternative: "none: synthetic data only",
			Owner: "the developer", ReviewBy: time.Now().AddDate(0, 1, 0),
		})
	}
	covered, anyWay := cfg.Development, cfg.Development
	for i, d := range cfg.Deviations {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("storage: Config.Deviations[%d]: %w", i, err)
		}
		covered = covered || d.Citation == citationKeys
		anyWay = anyWay || d.Citation == citationTransport
	}
	if isFile(cfg.KEK) && !covered {
		return nil, errors.New("storage: Config.KEK is a file: use a KMS, set Development, or add a Deviation from " + citationKeys + " that names the separate device")
	}
	if x, ok := cfg.Access.(interface{ Deviations() []access.Deviation }); ok {
		deviations = append(deviations[:len(deviations):len(deviations)], x.Deviations()...)
	}
	if _, ok := cfg.Audit.(audit.History); !ok && cfg.Tombstones == nil {
		deviations = append(deviations[:len(deviations):len(deviations)], access.Deviation{
			Citation: citationDisposal, Reason: "an older copy of the database is not recognised: Config.Tombstones is nil, and Config.Audit cannot be read back",
			Alternative: "none", Owner: "the developer", ReviewBy: time.Now().AddDate(0, 1, 0),
		})
	}
	if cfg.Retention == 0 {
		cfg.Retention = 6 * 365 * 24 * time.Hour
	}
	if cfg.RevealTTL == 0 {
		cfg.RevealTTL = 5 * time.Minute
	}
	if cfg.NewID == nil {
		cfg.NewID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	ringConfig := crypto.Config{
		KEK: cfg.KEK, GenerationInterval: cfg.KeyBound, Now: cfg.Now, Outage: cfg.KEKOutage,
		Unreachable: func(tenant string, until time.Time, err error) {
			cfg.Log.Warn("part164: the KEK does not answer; keys in memory go on", zap.String("tenant", tenant), zap.Time("until", until), zap.Error(err))
		},
	}
	ring, err := crypto.NewKeyring(ringConfig)
	if err != nil {
		return nil, fmt.Errorf("storage: Config.KEK, KEKOutage: %w", err)
	}
	return &plugin{cfg: cfg, deviations: deviations, anyWay: anyWay, keys: ring, ring: ringConfig, models: newModels()}, nil
}

// isFile reports whether a KEK, or one of those of a crypto.RotatingKEK, is a file.
func isFile(k crypto.KEK) bool {
	if r, ok := k.(interface{ KEKs() []crypto.KEK }); ok {
		return slices.ContainsFunc(r.KEKs(), isFile)
	}
	_, file := k.(*crypto.FileKEK)
	return file
}

// citationKeys is the specification that a deviation must cite to keep the key
// in a file (HHS guidance on unsecured PHI, 74 FR 42740: keys on a separate
// device or location from the data).
const citationKeys = "164.312(a)(2)(iv)"

// citationDisposal is the specification on the final disposition of PHI.
const citationDisposal = "164.310(d)(2)(i)"

// citationDevelopment is the standard by which development mode is a deviation.
const citationDevelopment = "164.306(d)(3)"

// A plugin is the SDK in one gorm.DB.
type plugin struct {
	cfg        Config
	deviations []access.Deviation
	anyWay     bool // the way to the database need be neither loopback nor verified TLS
	keys       *crypto.Keyring
	ring       crypto.Config // of keys
	models     models
	db         *gorm.DB
	pool       *pool
	relay      *relay
	files      atomic.Pointer[Files] // nil: not opened
	restore    restoreState

	searchers searchers
}

// Name implements gorm.Plugin.
func (p *plugin) Name() string { return pluginName }

func (p *plugin) now() time.Time { return p.cfg.Now().UTC() }

// Initialize implements gorm.Plugin: it wraps the connection, replaces the
// four statement callbacks, checks the key and starts the relay.
func (p *plugin) Initialize(db *gorm.DB) error {
	sqlDB, err := db.DB()
	if err != nil {
		return fmt.Errorf("storage: open: %w", err)
	}
	if sqlDB.Stats().MaxOpenConnections == 1 {
		return &RefusedError{Op: "open", Why: "MaxOpenConns is 1, and keys are read beside a running statement", Mend: "allow at least 2"}
	}
	if printsArguments(db.Logger) {
		return &RefusedError{Op: "open", Why: "GORM's logger prints the arguments of statements, which hold clear PHI", Mend: "set ParameterizedQueries in its Config, or use logger.Discard"}
	}
	if db.Name() == "mysql" {
		p.cfg.Access = caseless{p.cfg.Access}
	}
	p.db = db
	p.pool = &pool{ConnPool: db.ConnPool, plugin: p, making: make(chan struct{}, 1)}
	switch {
	case p.anyWay:
	case db.Name() == "sqlite":
		c, err := sqlDB.Conn(context.Background())
		if err == nil {
			err = errors.Join(c.Raw(checkInProcess), c.Close())
		}
		if err != nil {
			return fmt.Errorf("storage: open: %w", err)
		}
	default:
		switch db.ConnPool.(type) {
		case *sql.DB, *gorm.PreparedStmtDB: // whose cache would run statements on connections unseen
		default:
			return &RefusedError{Op: "open", Why: fmt.Sprintf("the connections of a %T cannot be measured", db.ConnPool), Mend: "give GORM a *sql.DB, or add a Deviation from " + citationTransport}
		}
		v := newVerifiedDB(sqlDB)
		if err := v.conn(context.Background(), (*sql.Conn).Close); err != nil {
			return fmt.Errorf("storage: open: %w", err)
		}
		p.pool.ConnPool = v
	}
	db.ConnPool = p.pool
	db.Statement.ConnPool = p.pool
	if err := p.register(db); err != nil {
		return err
	}
	ctx := context.Background()
	if err := p.checkKEK(ctx); err != nil {
		return err
	}
	if err := p.knownTables(ctx); err != nil {
		return err
	}
	if err := p.recordDeviations(ctx); err != nil {
		return err
	}
	if err := p.adoptMeta(ctx); err != nil {
		return fmt.Errorf("storage: open: %w", err)
	}
	if err := p.checkRestored(ctx); err != nil && !errors.Is(err, ErrRestored) {
		return err
	}
	p.relay = startRelay(p)
	return nil
}

func printsArguments(l logger.Interface) bool {
	if l == logger.Discard {
		return false
	}
	f, ok := l.(gorm.ParamsFilter)
	if !ok {
		return true
	}
	_, args := f.ParamsFilter(context.Background(), "SELECT ?", "argument")
	return len(args) > 0
}

// register replaces GORM's own callbacks by ours around them.
func (p *plugin) register(db *gorm.DB) error {
	quiet := db.Logger
	db.Logger = logger.Discard // Replace logs a warning
	defer func() { db.Logger = quiet }()
	cb := db.Callback()
	query, create := cb.Query().Get("gorm:query"), cb.Create().Get("gorm:create")
	update, del := cb.Update().Get("gorm:update"), cb.Delete().Get("gorm:delete")
	raw, row := cb.Raw().Get("gorm:raw"), cb.Row().Get("gorm:row")
	return errors.Join(
		cb.Create().Before("gorm:before_create").Register("part164:begin", p.begin),
		cb.Create().After("gorm:after_create").Before("gorm:commit_or_rollback_transaction").Register("part164:end", p.end),
		cb.Update().Before("gorm:setup_reflect_value").Register("part164:begin", p.begin),
		cb.Update().After("gorm:after_update").Before("gorm:commit_or_rollback_transaction").Register("part164:end", p.end),
		cb.Delete().Before("gorm:before_delete").Register("part164:begin", p.begin),
		cb.Delete().After("gorm:after_delete").Before("gorm:commit_or_rollback_transaction").Register("part164:end", p.end),
		cb.Query().Replace("gorm:query", func(db *gorm.DB) { p.query(db, query) }),
		cb.Create().Replace("gorm:create", func(db *gorm.DB) { p.insert(db, create) }),
		cb.Update().Replace("gorm:update", func(db *gorm.DB) { p.write(db, update, access.Update, p.update) }),
		cb.Delete().Replace("gorm:delete", func(db *gorm.DB) { p.write(db, del, access.Delete, p.delete) }),
		cb.Raw().Replace("gorm:raw", func(db *gorm.DB) { p.unbuilt(db, raw) }),
		cb.Row().Replace("gorm:row", func(db *gorm.DB) { p.row(db, row) }),
	)
}

func (p *plugin) recordDeviations(ctx context.Context) error {
	for _, d := range p.deviations {
		reason := audit.ReasonNone // the citation says it
		switch d.Citation {
		case citationDevelopment:
			reason = audit.ReasonDevelopment
		case citationKeys:
			reason = audit.ReasonKeyLocation
		case citationTransport:
			reason = audit.ReasonTransport
		case "164.308(a)(4)", "164.312(a)(1)":
			reason = audit.ReasonRelation
		}
		ev := audit.Event{Type: audit.Deviation, Outcome: audit.Success, Reason: reason, Citation: d.Citation, Actor: systemActor}
		if _, err := p.cfg.Audit.Record(ctx, ev); err != nil {
			return fmt.Errorf("storage: open: record deviation: %w", err)
		}
	}
	return nil
}

// systemActor is who acts at Open, before any principal.
var systemActor = access.Principal{ID: "part164-storage", Tenant: "system", Kind: access.Service}

// pluginOf finds the plugin in a database of Open.
func pluginOf(db *gorm.DB) (*plugin, error) {
	if db != nil && db.Config != nil {
		if p, ok := db.Config.Plugins[pluginName].(*plugin); ok {
			return p, nil
		}
	}
	return nil, errors.New("storage: the database has no part164 plugin: open it with storage.Open, or db.Use the plugin of storage.New")
}

// Close settles the outbox, stops the relay and closes the database.
func Close(db *gorm.DB) error {
	p, err := pluginOf(db)
	if err != nil {
		return err
	}
	rerr := p.relay.stop()
	sqlDB, err := db.DB()
	if err == nil {
		err = sqlDB.Close()
	}
	return errors.Join(rerr, err)
}
