// SPDX-License-Identifier: Apache-2.0

// Package auditstore keeps the events of audit journals in a database, through
// GORM: SQLite, PostgreSQL or MariaDB. It is a sink that any number of nodes
// may share.
//
//	if err := auditstore.Migrate(ctx, db); err != nil { ... }
//	store, err := auditstore.New(db, auditstore.Config{})
//	pipe, err := sink.Open(journal, store, sink.Config{})
//
// The table audit_events holds the exact bytes of each line, and columns that
// are derived from it, to look things up by; audit_event_patients names the
// patients of each event, by pseudonym. An event stands there once, by its
// writer and sequence. Triggers refuse to change or remove a row, and the rights
// that [Grants] gives do not allow it; who owns the database can do both, and
// sink.Compare then says so. The journal stays the record.
package auditstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/storage/internal/table"
)

const (
	eventTable   = "audit_events"
	patientTable = "audit_event_patients"

	insertRows = 500 // of one INSERT
)

// Config configures [New]. Its zero value is the production setting.
type Config struct {
	// Name tells the sinks of a journal apart. Empty means "database".
	Name string

	// Recipient is the opaque ID of who runs the database, where that is
	// somebody else; see [sink.Sink].
	Recipient string
}

// A Store is the sink. Make it with [New]; it is safe for concurrent use.
type Store struct {
	db  *gorm.DB
	cfg Config
}

var _ sink.Sink = (*Store)(nil)

// New returns the sink of db, whose tables [Migrate] made. db is one of
// storage.Open, or has its plugin, which has checked the way to the database:
// on another machine it takes verified TLS. An SQLite database may be any.
func New(db *gorm.DB, cfg Config) (*Store, error) {
	fail := func(err error) (*Store, error) { return nil, fmt.Errorf("auditstore: %w", err) }
	if db == nil {
		return fail(errors.New("the database is nil"))
	}
	if _, ok := db.Plugins["part164"]; !ok && db.Name() != "sqlite" {
		return fail(errors.New("the way to the database was not checked: open it with storage.Open, or db.Use the plugin of storage.New"))
	}
	if cfg.Name == "" {
		cfg.Name = "database"
	}
	if cfg.Recipient != "" {
		if err := access.CheckID(cfg.Recipient); err != nil {
			return fail(fmt.Errorf("Config.Recipient %w", err))
		}
	}
	return &Store{db: table.Quiet(db), cfg: cfg}, nil
}

type eventRow struct {
	Writer     table.ID `gorm:"primaryKey"`
	Seq        int64    `gorm:"primaryKey;autoIncrement:false"`
	Leaf       []byte
	RecordedAt int64 // microseconds since 1970, as precise as a line
	Type       string
	Outcome    string
	Reason     string
	Purpose    string
	Tenant     table.ID
	Actor      table.ID
	Line       []byte
}

func (eventRow) TableName() string { return eventTable }

type patientRow struct {
	Patient table.ID `gorm:"primaryKey"`
	Writer  table.ID `gorm:"primaryKey"`
	Seq     int64    `gorm:"primaryKey;autoIncrement:false"`
}

func (patientRow) TableName() string { return patientTable }

func rowOf(l *audit.Line) (eventRow, []patientRow) {
	r := eventRow{
		Writer: table.ID(l.Position.Writer), Seq: int64(l.Position.Seq), Leaf: l.Leaf[:], RecordedAt: l.Time.UnixMicro(),
		Type: string(l.Type), Outcome: string(l.Outcome), Reason: string(l.Reason), Purpose: string(l.Purpose),
		Tenant: table.ID(l.Actor.Tenant), Actor: table.ID(l.Actor.ID), Line: l.Raw,
	}
	var patients []patientRow
	seen := make(map[string]bool)
	for i := range l.Objects {
		if p := l.Objects[i].Patient; p != "" && !seen[p] {
			seen[p] = true
			patients = append(patients, patientRow{table.ID(p), r.Writer, r.Seq})
		}
	}
	return r, patients
}

// Name implements [sink.Sink].
func (s *Store) Name() string { return s.cfg.Name }

// Recipient implements [sink.Sink].
func (s *Store) Recipient() string { return s.cfg.Recipient }

// Deliver implements [sink.Sink]: all lines, or none. What is there already is
// left as it is. Where another event is there under the same name it fails: the
// journal was set back to a copy, or somebody put the row there. The pipe parks
// what no later try delivers, and sink.Compare names it.
func (s *Store) Deliver(ctx context.Context, lines []audit.Line) (accepted int, err error) {
	err = s.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		there, err := present(tx, lines)
		if err != nil {
			return err
		}
		var events []eventRow
		var patients []patientRow
		for i := range lines {
			l := &lines[i]
			name := name{l.Position.Writer, l.Position.Seq}
			if leaf, ok := there[name]; ok {
				if !bytes.Equal(leaf, l.Leaf[:]) {
					return fmt.Errorf("the table has another event %s: was the journal set back? compare them", l.ID)
				}
				continue
			}
			there[name] = l.Leaf[:]
			r, p := rowOf(l)
			events, patients = append(events, r), append(patients, p...)
		}
		for chunk := range slices.Chunk(events, insertRows) {
			if err := tx.Create(&chunk).Error; err != nil {
				return err
			}
		}
		for chunk := range slices.Chunk(patients, insertRows) {
			if err := tx.Create(&chunk).Error; err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("auditstore: %w", err)
	}
	return len(lines), nil
}

type name struct {
	writer string
	seq    uint64
}

// present returns the leaves of what is there of lines.
func present(tx *gorm.DB, lines []audit.Line) (map[name][]byte, error) {
	byWriter := make(map[string][]int64)
	for i := range lines {
		w := lines[i].Position.Writer
		byWriter[w] = append(byWriter[w], int64(lines[i].Position.Seq))
	}
	out := make(map[name][]byte)
	for w, seqs := range byWriter {
		var rows []eventRow
		err := tx.Select("writer", "seq", "leaf").Where("writer = ? AND seq BETWEEN ? AND ?", table.ID(w), slices.Min(seqs), slices.Max(seqs)).Find(&rows).Error
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[name{w, uint64(r.Seq)}] = r.Leaf
		}
	}
	return out, nil
}

// Copies yields what the table has of writer's journal, for sink.Compare: the
// hashes are computed from the lines, and a row whose columns are not those of
// its line has none. An empty writer means every one.
func (s *Store) Copies(ctx context.Context, writer string) iter.Seq2[sink.Copy, error] {
	return func(yield func(sink.Copy, error) bool) {
		q := s.db.WithContext(ctx).Order("writer").Order("seq").Limit(insertRows)
		if writer != "" {
			q = q.Where("writer = ?", table.ID(writer))
		}
		q = q.Session(&gorm.Session{})
		for after := (*eventRow)(nil); ; {
			page := q
			if after != nil {
				page = q.Where("writer > ? OR writer = ? AND seq > ?", after.Writer, after.Writer, after.Seq)
			}
			var rows []eventRow
			if err := page.Find(&rows).Error; err != nil {
				yield(sink.Copy{}, fmt.Errorf("auditstore: read: %w", err))
				return
			}
			for i := range rows {
				if !yield(copyOf(&rows[i]), nil) {
					return
				}
			}
			if len(rows) < insertRows {
				return
			}
			after = &rows[len(rows)-1]
		}
	}
}

func copyOf(r *eventRow) sink.Copy {
	out := sink.Copy{Writer: string(r.Writer), Seq: uint64(r.Seq)}
	l, err := audit.ParseLine(audit.Position{Writer: out.Writer, Seq: out.Seq}, r.Line)
	if err != nil {
		return out
	}
	want, _ := rowOf(&l)
	if want.Type == r.Type && want.Outcome == r.Outcome && want.Reason == r.Reason && want.Purpose == r.Purpose &&
		want.Tenant == r.Tenant && want.Actor == r.Actor && want.RecordedAt == r.RecordedAt && bytes.Equal(want.Leaf, r.Leaf) {
		out.Leaf = l.Leaf
	}
	return out
}
