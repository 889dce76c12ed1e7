// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// The bases of an [Authority].
const (
	RetentionOver = "retention.over" // the retention period has passed; overrides nothing
	PatientRight  = "patient.right"  // the patient asks, and a law gives the right to it; overrides the retention period
	ContractEnd   = "contract.end"   // a business associate's contract ended, 45 CFR 164.504(e)(2)(ii)(J); overrides the retention period
	CourtOrder    = "court.order"    // overrides the retention period and every [Hold]
)

// An Authority is why a patient's data may be destroyed, and who approved it.
// There is no zero authority.
type Authority struct {
	Basis     string `json:"basis"`     // one of the constants
	Approver  string `json:"approver"`  // user ID of who approved it: somebody else than the principal who shreds
	Reference string `json:"reference"` // opaque ID of the order, request or contract, by which it is found; not a name or a number of a person
}

func (a Authority) overridesHolds() bool { return a.Basis == CourtOrder }

func (a Authority) overridesRetention() bool { return a.Basis != RetentionOver }

func (a Authority) validate(who access.Principal) error {
	if !slices.Contains([]string{RetentionOver, PatientRight, ContractEnd, CourtOrder}, a.Basis) {
		return errors.New("storage: shred: Authority.Basis is not one of storage.RetentionOver, PatientRight, ContractEnd and CourtOrder")
	}
	if err := access.CheckID(a.Approver); err != nil {
		return fmt.Errorf("storage: shred: Authority.Approver %w", err)
	}
	if a.Approver == who.ID {
		return errors.New("storage: shred: Authority.Approver is who shreds: somebody else has to approve")
	}
	if err := access.CheckID(a.Reference); err != nil {
		return fmt.Errorf("storage: shred: Authority.Reference %w", err)
	}
	return nil
}

// The states of a [Certificate].
const (
	Pending  = "pending"  // copies of the keys may live
	Complete = "complete" // they have expired
)

// A Certificate says which keys were destroyed, by whom and why, and what is
// left. It can be kept as JSON; its MAC is checked by [Certificate.Confirm].
// Its zero value certifies nothing.
type Certificate struct {
	Event     string    `json:"event"` // ID of the shred event in the audit trail
	Database  string    `json:"database"`
	Tenant    string    `json:"tenant"`
	Subject   string    `json:"subject"` // the patient's record ID
	Method    string    `json:"method"`
	Authority Authority `json:"authority"`
	By        string    `json:"by"`               // principal
	Shredded  time.Time `json:"shredded"`         // when the keys were gone from the database
	Merged    []string  `json:"merged,omitempty"` // record IDs of duplicates that were merged into the patient: destroyed with it
	Keys      int       `json:"keys"`             // versions of keys destroyed by this call
	Tokens    int64     `json:"tokens,omitempty"` // search tokens deleted
	Clear     []string  `json:"clear,omitempty"`  // columns, as table.column, in which PHI of the patient lies in clear: not destroyed
	Dropped   time.Time `json:"dropped"`          // from when no running process holds a key
	Until     time.Time `json:"until,omitzero"`   // pending until then; zero while pending means that nobody knows
	State     string    `json:"state"`
	MAC       []byte    `json:"mac"`
}

// method names what is done, not who would accept it.
const method = "cryptographic erase (NIST SP 800-88 Rev. 2): the data keys, AES-256, were deleted; the ciphertext is left"

func (c Certificate) statement() string {
	c.MAC = nil
	b, err := json.Marshal(c)
	if err != nil { // strings, numbers and times always encode
		return ""
	}
	return string(b)
}

// Shred destroys every key of the patient with the record ID subject, in the
// tenant of ctx's principal, and with them all that is sealed under them: cells
// in the database and in each of its copies. In one transaction, which waits
// for writes of the tenant and makes them wait, it deletes the wrapped keys and
// search tokens, and leaves a tombstone: from then on sealing for the patient
// and opening give [crypto.ErrShredded], and no key is ever made for the patient again.
// Each other process drops its copy of a key within 5 seconds
// ([crypto.Keyring.Bound]); an open that had begun then, or that reads in a
// transaction which is shown the tables as they were before, may still end.
//
// The error is [ErrHeld] where a hold of Config.Holds forbids it, and
// [ErrRetained] inside the retention period, unless the authority overrides
// them; the principal needs the right to access.Shred.
//
// Duplicates that were merged into the patient go with it. Where phi_merges names
// one that no merge of storage put there, or whose merge the process's own trail
// knows to be undone, the error is [ErrRefused] and nothing is destroyed. Columns that a job
// is to seal (from=column) are set to NULL for the patient: their backups hold
// plaintext still, which no shredded key makes unreadable.
//
// The rows stay, and what they hold in clear: the certificate names the columns.
// It is pending while copies of the key table live (Config.KeyBackups).
// Called again, Shred destroys nothing more and certifies again; do so where it
// failed after the keys were gone.
func Shred(ctx context.Context, db *gorm.DB, subject string, a Authority) (Certificate, error) {
	p, err := pluginOf(db)
	if err != nil {
		return Certificate{}, err
	}
	scope, err := access.From(ctx)
	if err != nil {
		return Certificate{}, err
	}
	who := scope.Principal()
	if !isUUID(subject) {
		return Certificate{}, errors.New("storage: shred: the subject is no record ID of a patient")
	}
	if err := a.validate(who); err != nil {
		return Certificate{}, err
	}
	if err := p.tooOld(ctx); err != nil {
		return Certificate{}, err
	}
	models, err := p.allModels(ctx)
	if err != nil {
		return Certificate{}, err
	}
	s := &shredding{plugin: p, ctx: ctx, models: models, tenant: who.Tenant, subject: subject}
	if s.kind, err = s.kindOf(); err != nil {
		return Certificate{}, err
	}
	if err := s.allow(); err != nil {
		return Certificate{}, err
	}
	if s.mac, err = p.metaMAC(ctx); err != nil {
		return Certificate{}, fmt.Errorf("storage: shred: %w", err)
	}
	if s.merged, err = p.mergedInto(ctx, "shred", s.mac, who.Tenant, subject); err != nil {
		return Certificate{}, err
	}
	for _, id := range s.all() {
		if reason, err := p.mayDestroy(ctx, models, who.Tenant, id, a); err != nil {
			return Certificate{}, errors.Join(err, s.denied(reason, "", ""))
		}
	}
	gone := make(map[string]erased)
	for _, id := range s.all() {
		if gone[id], err = s.destroy(id); err != nil {
			return Certificate{}, fmt.Errorf("storage: shred: %w", err)
		}
	}
	for _, id := range s.all() {
		if err := p.shredFiles(ctx, who.Tenant, id); err != nil {
			return Certificate{}, fmt.Errorf("storage: shred: the keys are gone, but %w: call Shred again", err)
		}
	}
	return s.certify(gone, a, who)
}

// A shredding is one call of Shred.
type shredding struct {
	*plugin
	ctx             context.Context
	models          []*model
	tenant, subject string
	merged          []string // duplicates of the patient
	kind            string   // resource type of the patient
	mac             metaMAC
}

// all are the duplicates and then the patient, so that a call that fails in
// between can be repeated.
func (s *shredding) all() []string { return append(slices.Clone(s.merged), s.subject) }

// kindOf returns the resource type of the model that the patient is a row of.
func (s *shredding) kindOf() (string, error) {
	kind := ""
	for _, m := range s.models {
		if !m.own {
			continue
		}
		n, err := s.countStored(s.ctx, inner(s.pool), selection{m: m, tenant: s.tenant, subject: s.subject})
		if err != nil {
			return "", err
		}
		if n > 0 || kind == "" {
			kind = m.name
		}
		if n > 0 {
			break
		}
	}
	if kind == "" {
		kind = "patient"
	}
	return kind, nil
}

func (s *shredding) object(id string) audit.Object {
	return audit.Object{Type: s.kind, Tenant: s.tenant, Record: id, Patient: id}
}

func (s *shredding) allow() error {
	d, err := s.cfg.Access.Check(s.ctx, access.Request{Action: access.Shred, Resources: []access.Resource{{Type: s.kind, ID: s.subject, Patient: s.subject, Tenant: s.tenant}}})
	if err == nil && d.AllowAll(1) {
		return nil
	}
	if err == nil {
		err = &access.DeniedError{Action: access.Shred, Resource: s.kind, Code: firstDenial(d, 1), Decision: d.ID}
	}
	return errors.Join(err, s.denied(audit.ReasonPolicy, codeOf(err), d.ID))
}

func (s *shredding) denied(reason audit.Reason, code access.Code, decision string) error {
	_, err := s.cfg.Audit.Record(s.ctx, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: reason, Action: access.Shred, Code: code, Decision: decision, Objects: []audit.Object{s.object(s.subject)}})
	return err
}

// erased is what one transaction destroyed.
type erased struct {
	meta   metaRow
	at     time.Time // when the patient's tombstone was set
	before bool      // which it was by an earlier call
	keys   int
	clear  []string
	tokens int64

	emptied int64 // rows whose old columns held something
}

// destroy deletes one patient's keys in one transaction, unless they are gone
// already.
func (s *shredding) destroy(id string) (g erased, err error) {
	done := false
	err = s.transaction(s.ctx, func(tx *txConn) (err error) {
		done = false
		ticket, err := s.cfg.Audit.Attempt(s.ctx, audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: access.Shred, Objects: []audit.Object{s.object(id)}})
		if err != nil {
			return err
		}
		tx.add(ticket)
		if err := s.outbox(s.ctx, tx, ticket); err != nil {
			return err
		}
		if g, err = s.erase(s.ctx, tx.Tx, s.mac, s.models, s.tenant, id, true); err != nil {
			return err
		}
		if g.keys == 0 && g.emptied == 0 && !g.before && id == s.subject {
			return fmt.Errorf("the patient has no key, so that there is nothing to destroy: %w", crypto.ErrNoKey)
		}
		done = true
		return nil
	})
	if err != nil && done {
		return g, fmt.Errorf("the outcome of COMMIT is not known: call Shred again: %w", err)
	}
	if err != nil {
		return g, err
	}
	s.scrub(s.ctx)
	return g, nil
}

// outbox puts the ticket of a write into the transaction that carries it.
func (p *plugin) outbox(ctx context.Context, tx *txConn, t audit.Ticket) error {
	out := outboxRow{Attempt: t.Attempt, Writer: t.Writer, Digest: t.Digest, MAC: t.MAC}
	if err := p.own(ctx, tx.Tx).Create(&out).Error; err != nil {
		return fmt.Errorf("storage: insert into phi_outbox: %w", err)
	}
	return nil
}

// erase destroys one patient's keys on a transaction's connection. Where they
// are gone already it changes nothing. count says whether the shred is a new
// one, and not one that an older copy of the database had lost.
func (p *plugin) erase(ctx context.Context, conn gorm.ConnPool, mac metaMAC, models []*model, tenant, subject string, count bool) (g erased, err error) {
	db := func() *gorm.DB { return p.own(ctx, conn) }
	if p.db.Name() == "sqlite" { // zeroes what is deleted
		if _, err := conn.ExecContext(ctx, "PRAGMA secure_delete = ON"); err != nil {
			return g, fmt.Errorf("storage: PRAGMA secure_delete: %w", err)
		}
	}
	var records []string // that have tokens; read before the lock, because it may take long
	if err := db().Model(&indexRow{}).Where("tenant_id = ? AND subject_id = ?", tenant, subject).Distinct().Pluck("record_id", &records).Error; err != nil {
		return g, fmt.Errorf("storage: read phi_index: %w", err)
	}
	// Writers share this row, so none is between its look at the tombstones
	// and its commit, and none begins.
	if err := (&keyRows{plugin: p, conn: conn}).LockKeys(ctx, tenant, "wrap"); err != nil {
		return g, err
	}
	var rows []subjectKey
	if err := db().Clauses(clause.Locking{Strength: "UPDATE"}).Where("tenant_id = ? AND subject_id = ?", tenant, subject).Order("version").Find(&rows).Error; err != nil {
		return g, fmt.Errorf("storage: read phi_subject_keys: %w", err)
	}
	g.at = p.now()
	stone := subjectKey{TenantID: tenant, SubjectID: subject, Shredded: true, CreatedAt: g.at}
	for _, r := range rows {
		if r.Shredded {
			g.before, g.at = true, r.CreatedAt.UTC()
		} else {
			g.keys++
		}
	}
	if g.emptied, err = p.emptyOlds(ctx, conn, models, tenant, subject); err != nil {
		return g, err
	}
	if g.clear, err = p.clearOf(ctx, conn, models, tenant, subject); err != nil {
		return g, err
	}
	if g.meta, err = p.lockMeta(ctx, conn); err != nil {
		return g, err
	}
	if g.before && g.keys == 0 {
		return g, nil
	}
	if g.tokens, err = p.dropTokens(ctx, conn, models, tenant, subject, records); err != nil {
		return g, err
	}
	// Written over before they are deleted: the database may leave what a
	// deleted row held in its file.
	noise := make([]byte, 64)
	_, _ = rand.Read(noise) // never fails: crypto/rand
	keys := func() *gorm.DB {
		return db().Model(&subjectKey{}).Where("tenant_id = ? AND subject_id = ? AND shredded = ?", tenant, subject, false)
	}
	if err := errors.Join(keys().Update("wrapped", noise).Error, keys().Delete(&subjectKey{}).Error); err != nil {
		return g, fmt.Errorf("storage: delete from phi_subject_keys: %w", err)
	}
	if !g.before {
		if err := db().Create(&stone).Error; err != nil {
			return g, fmt.Errorf("storage: insert into phi_subject_keys: %w", err)
		}
	}
	g.meta.Generation++
	if count && !g.before {
		g.meta.Tombstones++
	}
	return g, p.saveMeta(ctx, conn, mac, &g.meta)
}

// dropTokens deletes the tokens of the records, and of all that are the
// patient's by now.
func (p *plugin) dropTokens(ctx context.Context, conn gorm.ConnPool, models []*model, tenant, subject string, records []string) (n int64, err error) {
	for _, m := range models {
		var more []string
		if err := p.rowsOf(ctx, conn, selection{m: m, tenant: tenant, subject: subject}).Pluck(m.column("ID"), &more).Error; err != nil {
			return 0, fmt.Errorf("storage: read %s: %w", m.table, err)
		}
		records = append(records, more...)
	}
	records = unique(records)
	for len(records) > 0 {
		k := min(keyChunk, len(records))
		q := p.own(ctx, conn).Where("tenant_id = ? AND record_id IN ?", tenant, records[:k]).Delete(&indexRow{})
		if q.Error != nil {
			return n, fmt.Errorf("storage: delete from phi_index: %w", q.Error)
		}
		n, records = n+q.RowsAffected, records[k:]
	}
	return n, nil
}

// scrub lets the database drop what it keeps of deleted rows, as far as it can
// be told to: SQLite's log of written pages. On others it stays until their log
// files and free space are used again, which Config.KeyBackups has to cover.
func (p *plugin) scrub(ctx context.Context) {
	if p.db.Name() == "sqlite" {
		var a, b, c int
		_ = inner(p.pool).QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&a, &b, &c) // busy: the next one does it
	}
}

// certify makes the tombstone and the event durable, and then the certificate.
func (s *shredding) certify(all map[string]erased, a Authority, who access.Principal) (Certificate, error) {
	gone := func(err error) error {
		return fmt.Errorf("storage: shred: the keys are destroyed, but that is not recorded: call Shred again: %w", err)
	}
	g := all[s.subject]
	c := Certificate{
		Database: g.meta.DatabaseID, Tenant: s.tenant, Subject: s.subject, Merged: s.merged, Method: method, Authority: a, By: who.ID,
		Shredded: g.at, Dropped: s.now().Add(s.keys.Bound()), State: Pending,
	}
	var objects []audit.Object
	for _, id := range s.all() {
		g := all[id]
		if src := s.tombstones(s.mac); src != nil {
			if err := src.add(s.ctx, g.meta, s.tenant, id); err != nil {
				return Certificate{}, gone(err)
			}
		}
		c.Keys, c.Tokens, c.Clear = c.Keys+g.keys, c.Tokens+g.tokens, append(c.Clear, g.clear...)
		objects = append(objects, s.object(id))
	}
	c.Clear = unique(c.Clear)
	if s.cfg.KeyBackups != 0 {
		c.Until = c.Dropped
		if t := g.at.Add(s.cfg.KeyBackups); t.After(c.Until) {
			c.Until = t
		}
	}
	receipt, err := s.cfg.Audit.Record(s.ctx, audit.Event{
		Type: audit.Shredded, Outcome: audit.Success, Reason: audit.ReasonPending, Action: access.Shred, Count: int(g.meta.Tombstones),
		Objects: append(objects, audit.Object{Type: databaseObject, Record: c.Database}, audit.Object{Type: "approver", Record: a.Approver}, audit.Object{Type: "authority." + a.Basis, Record: a.Reference}),
	})
	if err != nil {
		return Certificate{}, gone(err)
	}
	c.Event = receipt.ID
	c.MAC = s.mac.sum(certificateField, c.statement())
	return c, nil
}

// databaseObject is the object of a shred event that names the database.
const databaseObject = "database"

// Confirm returns the certificate as it is at this time: complete once the last
// process has dropped its keys and the copies of the key table have expired,
// which is recorded. It looks into the database first. The error is
// [ErrRestored] where the tombstone is gone or a key is back, and says so where
// c is not what Shred returned.
//
// The principal of ctx needs the right to access.Shred.
func (c Certificate) Confirm(ctx context.Context, db *gorm.DB) (Certificate, error) {
	p, err := pluginOf(db)
	if err != nil {
		return Certificate{}, err
	}
	scope, err := access.From(ctx)
	if err != nil {
		return Certificate{}, err
	}
	if err := p.tooOld(ctx); err != nil {
		return Certificate{}, err
	}
	mac, err := p.metaMAC(ctx)
	if err != nil {
		return Certificate{}, fmt.Errorf("storage: confirm certificate: %w", err)
	}
	if !mac.valid(certificateField, c.statement(), c.MAC) || c.Tenant != scope.Principal().Tenant {
		return Certificate{}, errors.New("storage: confirm certificate: it is not one that storage.Shred returned for this database and tenant")
	}
	models, err := p.allModels(ctx)
	if err != nil {
		return Certificate{}, err
	}
	s := &shredding{plugin: p, ctx: ctx, models: models, tenant: c.Tenant, subject: c.Subject, mac: mac}
	if s.kind, err = s.kindOf(); err != nil {
		return Certificate{}, err
	}
	if err := s.allow(); err != nil {
		return Certificate{}, err
	}
	s.merged = c.Merged
	for _, id := range s.all() {
		var keys, stones int64
		rows := func(shredded bool) *gorm.DB {
			return p.own(ctx, inner(p.pool)).Model(&subjectKey{}).Where("tenant_id = ? AND subject_id = ? AND shredded = ?", c.Tenant, id, shredded)
		}
		if err := errors.Join(rows(false).Count(&keys).Error, rows(true).Count(&stones).Error); err != nil {
			return Certificate{}, fmt.Errorf("storage: confirm certificate: read phi_subject_keys: %w", err)
		}
		if keys > 0 || stones == 0 {
			return Certificate{}, fmt.Errorf("storage: confirm certificate: %w", ErrRestored)
		}
	}
	if c.State == Complete || c.Until.IsZero() || p.now().Before(c.Until) {
		return c, nil
	}
	c.State = Complete
	c.MAC = mac.sum(certificateField, c.statement())
	ev := audit.Event{Type: audit.Shredded, Outcome: audit.Success, Action: access.Shred, Objects: []audit.Object{s.object(c.Subject), {Type: databaseObject, Record: c.Database}}}
	if _, err := p.cfg.Audit.Record(ctx, ev); err != nil {
		return Certificate{}, fmt.Errorf("storage: confirm certificate: %w", err)
	}
	return c, nil
}

// shredAgain erases the keys that an older copy of the database brought back.
func (p *plugin) shredAgain(ctx context.Context, mac metaMAC, tenant, subject string) error {
	models, err := p.allModels(ctx)
	if err != nil {
		return err
	}
	err = p.transaction(ctx, func(tx *txConn) error {
		_, err := p.erase(ctx, tx.Tx, mac, models, tenant, subject, false)
		return err
	})
	if err != nil {
		return err
	}
	p.scrub(ctx)
	return nil
}
