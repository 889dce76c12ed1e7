// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// ErrRestored means that the database is an older copy than the audit trail or
// Config.Tombstones knows, keys of shredded patients included, or that
// phi_meta, which tells, was changed. Nothing is read, written or opened until
// [Reapply] has shredded them again.
var ErrRestored = errors.New("storage: restored: the database is older than the list of shredded patients, so that destroyed keys may be back: call storage.Reapply")

// metaTenant holds the key of the database's own MACs. No tenant is called so:
// the slash is in no valid ID.
const metaTenant = "part164/meta"

const (
	metaField        = "phi_meta"
	tombstoneField   = "tombstone"
	certificateField = "certificate"
)

// A restoreState is what the process knows about the age of its database.
type restoreState struct {
	mu       sync.Mutex
	seen     uint64 // newest key generation that was read
	restored bool
}

// reapplied is how far Reapply moves the generation ahead: further than any
// process has seen, whichever copy it saw.
const reapplied = 1 << 31

// err returns ErrRestored while the database is too old.
func (r *restoreState) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.restored {
		return ErrRestored
	}
	return nil
}

func (r *restoreState) generation() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// read takes a generation that was read from the database after it was known
// to have been at before. One that went back is an older copy, unless the
// reading transaction sees an older state of the same database, which only that
// transaction has to bear.
func (r *restoreState) read(before, now uint64, inTx bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case before > 0 && now >= before+reapplied/2: // of a copy that may have been a little older
		r.restored = false
	case now < before && inTx:
		return ErrRestored
	case now < before:
		r.restored = true
	}
	r.seen = max(r.seen, now)
	if r.restored {
		return ErrRestored
	}
	return nil
}

func (r *restoreState) set(restored bool, seen uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restored, r.seen = restored, max(r.seen, seen)
}

// tooOld returns ErrRestored while the database is too old. Another process may
// have called Reapply since: then it looks again.
func (p *plugin) tooOld(ctx context.Context) error {
	if p.restore.err() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // the caller may hold the pool's last connection
	defer cancel()
	if _, err := (&keyRows{plugin: p, conn: inner(p.pool)}).Generation(ctx); err != nil {
		return ErrRestored
	}
	return nil
}

// A metaMAC makes and checks the MACs of the database's own statements: HMAC-
// SHA256 under an index key that no tenant has, wrapped by the KEK.
type metaMAC struct{ keys []*crypto.IndexKey }

func (m metaMAC) sum(field, value string) []byte { return m.keys[0].Token(field, "mac", value) }

func (m metaMAC) valid(field, value string, mac []byte) bool {
	return slices.ContainsFunc(m.keys, func(k *crypto.IndexKey) bool { return hmac.Equal(k.Token(field, "mac", value), mac) })
}

// pseudonyms are what a patient is called in a tombstone log, the newest first.
func (m metaMAC) pseudonyms(tenant, subject string) [][]byte {
	var out [][]byte
	for _, k := range m.keys {
		out = append(out, k.Token(tombstoneField, "subject", strconv.Itoa(len(tenant))+":"+tenant+subject))
	}
	return out
}

// metaMAC reads the key. The error wraps crypto.ErrNoKey where Migrate has not
// made it yet.
func (p *plugin) metaMAC(ctx context.Context) (metaMAC, error) {
	keys, err := p.keys.IndexKeys(ctx, metaRows{&keyRows{plugin: p, conn: inner(p.pool)}}, metaTenant)
	if err != nil {
		return metaMAC{}, fmt.Errorf("storage: key of phi_meta: %w", err)
	}
	return metaMAC{keys}, nil
}

// metaRows reads key rows also while the database is too old: Reapply needs
// the one of phi_meta.
type metaRows struct{ *keyRows }

func (k metaRows) Generation(ctx context.Context) (uint64, error) {
	m, err := k.meta(ctx)
	return m.Generation, err
}

func (m *metaRow) statement() string {
	return fmt.Sprint(m.Tombstones, m.Absent, m.DatabaseID)
}

// readMeta reads phi_meta; ok is false where Migrate has not made it yet.
func (p *plugin) readMeta(ctx context.Context, conn gorm.ConnPool) (m metaRow, ok bool, err error) {
	if !p.own(ctx, conn).Migrator().HasTable(&metaRow{}) || !p.own(ctx, conn).Migrator().HasColumn(&metaRow{}, "mac") {
		return m, false, nil
	}
	err = p.own(ctx, conn).Take(&m, 1).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fmt.Errorf("storage: read phi_meta: %w", err)
	}
	return m, true, nil
}

// signMeta makes the key of a new database's MACs, and the first MAC.
func (p *plugin) signMeta(ctx context.Context) error {
	if m, ok, err := p.readMeta(ctx, inner(p.pool)); err != nil || ok && m.MAC != nil {
		return err
	}
	err := p.transaction(ctx, func(tx *txConn) error {
		keys, err := tx.keys.IndexingKeys(ctx, metaTenant)
		if err != nil {
			return err
		}
		m, err := p.lockMeta(ctx, tx.Tx)
		if err != nil || m.MAC != nil || m.Tombstones != 0 {
			return err
		}
		return p.saveMeta(ctx, tx.Tx, metaMAC{keys}, &m)
	})
	if err != nil {
		return fmt.Errorf("storage: sign phi_meta: %w", err)
	}
	return nil
}

func (p *plugin) lockMeta(ctx context.Context, conn gorm.ConnPool) (metaRow, error) {
	var m metaRow
	if err := p.own(ctx, conn).Clauses(clause.Locking{Strength: "UPDATE"}).Take(&m, 1).Error; err != nil {
		return m, fmt.Errorf("storage: lock phi_meta: %w", err)
	}
	return m, nil
}

func (p *plugin) saveMeta(ctx context.Context, conn gorm.ConnPool, mac metaMAC, m *metaRow) error {
	m.MAC = mac.sum(metaField, m.statement())
	err := p.own(ctx, conn).Model(&metaRow{}).Where("id = 1").
		Updates(map[string]any{"generation": m.Generation, "tombstones": m.Tombstones, "absent": m.Absent, "mac": m.MAC}).Error
	if err != nil {
		return fmt.Errorf("storage: write phi_meta: %w", err)
	}
	return nil
}

// checkRestored holds phi_meta against the newest tombstone that is known
// outside the database. Where the database is behind, everything is refused
// until Reapply.
func (p *plugin) checkRestored(ctx context.Context) error {
	meta, ok, err := p.readMeta(ctx, inner(p.pool))
	if err != nil || !ok {
		return err
	}
	p.restore.set(false, meta.Generation)
	mac, err := p.metaMAC(ctx)
	if errors.Is(err, crypto.ErrNoKey) { // older than the key: no copy of it knows a tombstone
		err = nil
		if meta.Tombstones == 0 && meta.MAC == nil {
			return p.behind(ctx, meta, metaMAC{})
		}
	}
	if err != nil {
		return err
	}
	if len(mac.keys) == 0 || !(mac.valid(metaField, meta.statement(), meta.MAC) || meta.MAC == nil && meta.Tombstones == 0) {
		return p.restored(ctx, 0)
	}
	stones, err := p.countTombstones(ctx, inner(p.pool))
	if err != nil {
		return err
	}
	if stones+meta.Absent < meta.Tombstones { // the key table alone is an older copy
		return p.restored(ctx, int(meta.Tombstones-meta.Absent-stones))
	}
	return p.behind(ctx, meta, mac)
}

// countTombstones counts the patients with a tombstone.
func (p *plugin) countTombstones(ctx context.Context, conn gorm.ConnPool) (uint64, error) {
	var n int64
	if err := p.own(ctx, conn).Model(&subjectKey{}).Where("shredded = ? AND subject_id <> ?", true, "").Count(&n).Error; err != nil {
		return 0, fmt.Errorf("storage: count phi_subject_keys: %w", err)
	}
	return uint64(n), nil
}

// behind compares with the source of tombstones.
func (p *plugin) behind(ctx context.Context, meta metaRow, mac metaMAC) error {
	src := p.tombstones(mac)
	if src == nil {
		return nil
	}
	n, err := src.newest(ctx, meta.DatabaseID)
	if errors.Is(err, ErrRestored) {
		return errors.Join(err, p.restored(ctx, 0))
	}
	if err != nil {
		return fmt.Errorf("storage: open: tombstones: %w", err)
	}
	if n > meta.Tombstones {
		return p.restored(ctx, int(n-meta.Tombstones))
	}
	if n < meta.Tombstones && mac.keys != nil {
		return src.heal(ctx, p, meta)
	}
	return nil
}

// restored records what was found.
func (p *plugin) restored(ctx context.Context, behind int) error {
	p.restore.set(true, 0)
	p.cfg.Log.Error("the database is older than the list of shredded patients", zap.Int("behind", behind))
	ev := audit.Event{Type: audit.Restored, Outcome: audit.Failure, Count: behind, Actor: systemActor}
	if _, err := p.cfg.Audit.Record(ctx, ev); err != nil {
		return errors.Join(ErrRestored, err)
	}
	return ErrRestored
}

// eachSubject calls f for each patient with a tombstone, or for each without,
// page by page.
func (p *plugin) eachSubject(ctx context.Context, shredded bool, f func(tenant, subject string) error) error {
	var tenant, subject string
	for first := true; ; first = false {
		var rows []subjectKey
		q := p.own(ctx, inner(p.pool)).Model(&subjectKey{}).Select("tenant_id, subject_id").Where("shredded = ? AND subject_id <> ?", shredded, "")
		if !first {
			q = q.Where("tenant_id > ? OR tenant_id = ? AND subject_id > ?", tenant, tenant, subject)
		}
		if err := q.Group("tenant_id, subject_id").Order("tenant_id, subject_id").Limit(keyChunk).Find(&rows).Error; err != nil {
			return fmt.Errorf("storage: read phi_subject_keys: %w", err)
		}
		for _, r := range rows {
			if err := f(r.TenantID, r.SubjectID); err != nil {
				return err
			}
			tenant, subject = r.TenantID, r.SubjectID
		}
		if len(rows) < keyChunk {
			return nil
		}
	}
}

// Reapply shreds again, in a database that was restored from an older copy,
// every patient whom the source of tombstones knows: Config.Tombstones, else
// the audit trail of Config.Audit and the others that are given, which are
// those of the other nodes. It returns how many patients had their keys back.
// Afterwards the database opens again in every process.
//
// It runs in an [access.Job] with the right to access.Maintain, and may be
// called at any time. Where the source knows of more shreds than it can name,
// the error is [ErrRestored] still.
func Reapply(ctx context.Context, db *gorm.DB, others ...audit.History) (int, error) {
	p, err := pluginOf(db)
	if err != nil {
		return 0, err
	}
	if err := p.mayMaintain(ctx); err != nil {
		return 0, err
	}
	if slices.Contains(others, nil) {
		return 0, errors.New("storage: reapply: one of the other trails is nil: open each with audit.Open")
	}
	mac, err := p.metaMAC(ctx)
	if err != nil {
		return 0, fmt.Errorf("storage: reapply: %w", err)
	}
	src := p.tombstones(mac)
	if t, ok := src.(trailSource); ok {
		src = trailSource{append(t.histories, others...)}
	}
	if src == nil {
		return 0, &RefusedError{Op: "reapply", Why: "nothing outside the database knows who was shredded", Mend: "set Config.Tombstones, or a Config.Audit that can be read back"}
	}
	meta, _, err := p.readMeta(ctx, inner(p.pool))
	if err != nil {
		return 0, err
	}
	has, known, count, err := src.all(ctx, meta.DatabaseID)
	if err != nil {
		return 0, fmt.Errorf("storage: reapply: tombstones: %w", err)
	}
	n := 0
	err = p.eachSubject(ctx, false, func(tenant, subject string) error {
		if !has(tenant, subject) {
			return nil
		}
		n++
		return errors.Join(p.shredAgain(ctx, mac, tenant, subject), p.shredFiles(ctx, tenant, subject))
	})
	if err != nil {
		return n, fmt.Errorf("storage: reapply: %w", err)
	}
	if uint64(known) < count {
		return n, fmt.Errorf("%w: %d of %d shreds are not in the trails that were given: give those of every node", ErrRestored, count-uint64(known), count)
	}
	err = p.transaction(ctx, func(tx *txConn) (err error) {
		if meta, err = p.lockMeta(ctx, tx.Tx); err != nil {
			return err
		}
		stones, err := p.countTombstones(ctx, tx.Tx)
		if err != nil {
			return err
		}
		meta.Tombstones = max(meta.Tombstones, count, stones)
		meta.Absent = meta.Tombstones - stones
		meta.Generation = max(meta.Generation, p.restore.generation()) + reapplied
		return p.saveMeta(ctx, tx.Tx, mac, &meta)
	})
	if err != nil {
		return n, fmt.Errorf("storage: reapply: %w", err)
	}
	if _, err := p.recordAs(ctx, audit.Event{Type: audit.Restored, Outcome: audit.Success, Count: n}); err != nil {
		return n, fmt.Errorf("storage: reapply: %w", err)
	}
	p.restore.set(false, meta.Generation)
	return n, nil
}

// mayMaintain asks for access.Maintain on every kind of record.
func (p *plugin) mayMaintain(ctx context.Context) error {
	scope, err := access.From(ctx)
	if err != nil {
		return err
	}
	models, err := p.allModels(ctx)
	if err != nil {
		return err
	}
	tenant := scope.Principal().Tenant
	resources := []access.Resource{}
	for _, m := range models {
		resources = append(resources, access.Resource{Type: m.name, Tenant: tenant})
	}
	if len(resources) == 0 {
		resources = append(resources, access.Resource{Type: "patient", Tenant: tenant})
	}
	d, err := p.cfg.Access.Check(ctx, access.Request{Action: access.Maintain, Resources: resources})
	if err == nil && d.AllowAll(len(resources)) {
		return nil
	}
	if err == nil {
		err = &access.DeniedError{Action: access.Maintain, Resource: resources[0].Type, Code: firstDenial(d, len(resources)), Decision: d.ID}
	}
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: access.Maintain, Code: codeOf(err), Decision: d.ID}
	for _, r := range resources {
		ev.Objects = append(ev.Objects, audit.Object{Type: r.Type, Tenant: tenant})
	}
	_, rerr := p.cfg.Audit.Record(ctx, ev)
	return errors.Join(err, rerr)
}
