// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

// Files keeps files of any size, such as scans and letters, each about one
// patient. What is stored is sealed under a key of the file's own, which lies
// in the database as a cell under the patient's key: files are scoped,
// authorised, minimised and recorded as rows are, rotation and merge leave
// their bytes alone, and [Shred] ends them. Memory does not grow with the file.
//
// A file has no name and no type: keep them, sealed, beside its ID in a model
// of your own. To the policy it is a resource of the type "document". Files is
// safe for concurrent use.
type Files struct {
	p      *plugin
	store  Blobs
	prefix string // of the names in the store: the database's ID
}

// FilesConfig configures [OpenFiles]: one of its fields.
type FilesConfig struct {
	Folder string // made where it is missing, for its owner alone
	Store  Blobs  // another store, such as that of storage/s3files; several databases may share one
}

// Blobs keeps sealed files by name: lower-case letters, digits and "-", with
// one "/". It sees no plaintext, and need not be trusted with more than to keep
// what it is given. storagetest.TestBlobs is what each implementation passes.
// It is safe for concurrent use.
type Blobs interface {
	// Put stores all that r holds, or, with an error of r's or its own,
	// nothing under that name. It is durable when Put returns. It does not
	// hold the whole in memory. A name is used once.
	Put(ctx context.Context, name string, r io.Reader) error

	// Get reads from an offset to the end; at the end it is empty. The error
	// wraps [fs.ErrNotExist] where there is no such blob.
	Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error)

	// Delete removes a blob. One that is not there is no error.
	Delete(ctx context.Context, name string) error

	// List calls f with each name that begins with prefix, a part before a
	// "/", in any order, and with when it was stored; also with what a Put that
	// was killed has left. An error of f's ends it and is returned.
	List(ctx context.Context, prefix string, f func(name string, stored time.Time) error) error
}

// A FileInfo is what [Files.List] tells of a file.
type FileInfo struct {
	ID       string
	Subject  string
	Class    minimize.Class // empty where Withheld: the kind of a document tells of the patient
	Size     int64          // in bytes; 0 where Withheld
	Created  time.Time
	Withheld bool // the policy does not show the caller its class in full, so that Open refuses it
}

// A fileRecord is the row of a file. To jobs it is a model like any other.
type fileRecord struct {
	Record
	SubjectID string         `gorm:"size:36;not null;index" phi:"subject"`
	Class     string         `gorm:"size:20;not null" phi:"-"`
	Size      int64          `gorm:"not null" phi:"-"`
	Content   Sealed[[]byte] `phi:"operational"` // the key of its stream, and its class; see fileClass
}

func (fileRecord) TableName() string { return "phi_files" }

// ResourceType implements the method that names a model to the policy.
func (fileRecord) ResourceType() string { return "document" }

const filesTable = "phi_files"

type fileClassKey struct{}

// class is the class that a field is minimised by. A file's is its own.
func (f *field) class(ctx context.Context) minimize.Class {
	if f.Schema == nil || f.Schema.Table != filesTable {
		return f.tag.Class
	}
	c, _ := ctx.Value(fileClassKey{}).(minimize.Class)
	return c
}

// fileModel is the model of fileRecord. It is among those that jobs walk once
// this or another process has opened the files.
func (p *plugin) fileModel() (*model, error) {
	stmt := &gorm.Statement{DB: p.db}
	if err := stmt.Parse(&fileRecord{}); err != nil {
		return nil, fmt.Errorf("storage: files: %w", err)
	}
	return p.modelOf(&gorm.DB{Config: p.db.Config, Statement: stmt})
}

// constrainFiles is what [Migrate] does for the models that it is given.
func (p *plugin) constrainFiles(ctx context.Context) error {
	stmt := &gorm.Statement{DB: p.db}
	if err := stmt.Parse(&fileRecord{}); err != nil {
		return fmt.Errorf("storage: migrate: files: %w", err)
	}
	m, err := p.parse(stmt.Schema)
	if err != nil {
		return err
	}
	for _, f := range m.sealed {
		if err := p.constrain(ctx, m, f); err != nil {
			return err
		}
	}
	return nil
}

// OpenFiles opens the files of a database that [Migrate] has migrated. Each
// process that shreds or merges patients should, so that their files go along.
func OpenFiles(db *gorm.DB, cfg FilesConfig) (*Files, error) {
	p, err := pluginOf(db)
	if err != nil {
		return nil, err
	}
	if (cfg.Folder == "") == (cfg.Store == nil) {
		return nil, errors.New("storage: FilesConfig: set Folder, or Store, and not both")
	}
	if cfg.Store == nil {
		if cfg.Store, err = openFolder(cfg.Folder); err != nil {
			return nil, err
		}
	}
	if _, err := p.fileModel(); err != nil {
		return nil, err
	}
	ctx := context.Background()
	conn := inner(p.pool)
	var meta metaRow
	if err := p.own(ctx, conn).Take(&meta, 1).Error; err != nil {
		return nil, fmt.Errorf("storage: open files: read phi_meta: call storage.Migrate first: %w", err)
	}
	if err := p.own(ctx, conn).Clauses(clause.OnConflict{DoNothing: true}).Create(&tableRow{Name: filesTable}).Error; err != nil {
		return nil, fmt.Errorf("storage: open files: phi_tables: %w", err)
	}
	f := &Files{p: p, store: cfg.Store, prefix: meta.DatabaseID}
	if !p.files.CompareAndSwap(nil, f) {
		return nil, errors.New("storage: open files: they are open already: a database has one store")
	}
	return f, nil
}

func (f *Files) name(id string) string { return f.prefix + "/" + id }

// transaction runs do in the transaction of [InTx], or in one of its own.
func (f *Files) transaction(ctx context.Context, do func(db *gorm.DB, tx *txConn) error) error {
	session := func(tx *txConn) *gorm.DB {
		db := f.p.db.Session(&gorm.Session{NewDB: true, Context: ctx})
		db.Statement.ConnPool = tx
		return db
	}
	if tx, ok := ctx.Value(txKey{}).(*txConn); ok && tx.plugin == f.p {
		return do(session(tx), tx)
	}
	tx, err := f.p.pool.begin(ctx, nil)
	if err != nil {
		return fmt.Errorf("storage: begin: %w", err)
	}
	if err := do(session(tx), tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// opened refuses Files that [OpenFiles] has not made, and a nil context.
func (f *Files) opened(ctx context.Context) error {
	if f == nil || f.p == nil {
		return errors.New("storage: the files are not open: call storage.OpenFiles")
	}
	_, err := access.From(ctx)
	return err
}

// find reads the row of a file in reach.
func (f *Files) find(ctx context.Context, id string) (*fileRecord, error) {
	if err := f.opened(ctx); err != nil {
		return nil, err
	}
	if !isUUID(id) {
		return nil, gorm.ErrRecordNotFound
	}
	rec := new(fileRecord)
	db := f.p.db.Session(&gorm.Session{NewDB: true, Context: ctx})
	if tx, ok := ctx.Value(txKey{}).(*txConn); ok && tx.plugin == f.p {
		db.Statement.ConnPool = tx
	}
	if err := db.Take(rec, "id = ?", id).Error; err != nil {
		return nil, err
	}
	return rec, nil
}

// Put stores what r holds as a new file about the patient with the record ID
// subject, and returns its ID, a record ID. It needs the right to create a
// document of that patient, and that to set a value of the class, which says
// also who may open it. The write is recorded as that of a row is.
//
// It fails whole: an error of r's stores nothing. In the transaction of [InTx]
// the file is there when that commits. What a crash leaves was sealed under a
// key that nobody has, and [Files.Sweep] removes it.
func (f *Files) Put(ctx context.Context, subject string, class minimize.Class, r io.Reader) (string, error) {
	if err := f.opened(ctx); err != nil {
		return "", err
	}
	if r == nil {
		return "", errors.New("storage: put file: the reader is nil")
	}
	rec := &fileRecord{SubjectID: subject, Class: string(class)}
	rec.ID = f.p.cfg.NewID()
	ctx = context.WithValue(ctx, fileClassKey{}, class)
	tenant, err := f.mayPut(ctx, rec)
	if err != nil {
		return "", err
	}
	key, err := crypto.NewStreamKey()
	if err != nil {
		return "", err
	}
	if rec.Size, err = f.upload(ctx, f.name(rec.ID), key, crypto.StreamData(tenant, rec.ID), r); err != nil {
		return "", err
	}
	rec.Content = Seal(append(key.Bytes(), class...))
	err = f.transaction(ctx, func(db *gorm.DB, tx *txConn) error {
		discard := func() { f.discard(ctx, rec.ID) }
		tx.onRollback([]func(){discard})
		if err := db.Create(rec).Error; err != nil {
			discard()
			return err
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return rec.ID, nil
}

// mayPut asks before the bytes are taken what Create asks again after. It
// returns the tenant.
func (f *Files) mayPut(ctx context.Context, rec *fileRecord) (string, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return "", err
	}
	if !minimize.Class(rec.Class).Valid() {
		return "", errors.New("storage: put file: unknown class: take one of the Class constants of package minimize")
	}
	m, err := f.p.fileModel()
	if err != nil {
		return "", err
	}
	if !isUUID(rec.SubjectID) {
		return "", m.refuse("create", "the subject is no record ID", "give the patient's ID")
	}
	tenant := scope.Principal().Tenant
	o := &op{plugin: f.p, ctx: ctx, m: m, scope: scope, policy: minimize.Pin(scope, f.p.cfg.Minimize), action: access.Create,
		rows: []*row{{model: m, tenant: tenant, record: rec.ID, subject: rec.SubjectID}}}
	if err := o.allow(); err != nil {
		return "", err
	}
	v := &rights{}
	o.right(v, o.rows[0], m.sealed[0], minimize.Set)
	return tenant, o.rightsErr(v)
}

// upload seals r into the store, and returns how many bytes r held.
func (f *Files) upload(ctx context.Context, name string, key *crypto.StreamKey, data []byte, r io.Reader) (int64, error) {
	pr, pw := io.Pipe()
	var size int64
	done := make(chan error, 1)
	go func() {
		n, err := sealInto(pw, key, data, r)
		size = n
		_ = pw.CloseWithError(err)
		done <- err
	}()
	err := f.store.Put(ctx, name, pr)
	_ = pr.CloseWithError(io.ErrClosedPipe) // a store that failed has left some unread
	if serr := <-done; serr != nil && !errors.Is(serr, io.ErrClosedPipe) {
		return 0, fmt.Errorf("storage: put file: %w", serr)
	}
	if err != nil {
		return 0, fmt.Errorf("storage: put file: store: %w", err)
	}
	return size, nil
}

func sealInto(w io.Writer, key *crypto.StreamKey, data []byte, r io.Reader) (int64, error) {
	enc, err := key.Encrypt(w, data)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(enc, r)
	if err != nil {
		return 0, err
	}
	return n, enc.Close()
}

// discard removes the blob of a file that is not to be. What cannot be removed
// is left to Sweep.
func (f *Files) discard(ctx context.Context, id string) {
	_ = f.store.Delete(context.WithoutCancel(ctx), f.name(id))
}

// Open returns a reader of a file, which reads from any place and opens only
// what it reads. It is one act as [Reveal] is: it asks whether the caller may
// read the document and see its class in full, makes the event durable, and
// only then opens. The reader works until the scope of ctx ends or ctx is done;
// it is not safe for concurrent use. Close it.
//
// The error is gorm.ErrRecordNotFound, [ErrWithheld], an access.DeniedError, or
// wraps [ErrUnavailable] where the file is gone from the store, was cut or
// changed. What is changed beyond the end of the file is seen when it is read:
// then Read fails and gives out nothing of it.
func (f *Files) Open(ctx context.Context, id string) (io.ReadSeekCloser, error) {
	rec, err := f.find(ctx, id)
	if err != nil {
		return nil, err
	}
	scope, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	ctx = context.WithValue(ctx, fileClassKey{}, minimize.Class(rec.Class))
	if !f.opens(ctx, rec.Class) {
		_, err := f.p.recordAs(ctx, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonMinimum, Action: access.Read, Objects: []audit.Object{rec.object()}})
		return nil, errors.Join(ErrWithheld, err)
	}
	header, err := crypto.ParseHeader(rec.Content.cell().rawBytes())
	if err != nil {
		header = crypto.Header{} // Reveal says so, and records it
	}
	if err := Reveal(ctx, rec); err != nil {
		return nil, err
	}
	plain, err := rec.Content.Get(ctx)
	if err != nil {
		return nil, err
	}
	r := &fileReader{files: f, ctx: ctx, scope: scope, rec: rec, ref: crypto.KeyRef{Subject: rec.SubjectID, Version: header.KeyVersion}}
	if len(plain) < crypto.StreamKeySize || string(plain[crypto.StreamKeySize:]) != rec.Class {
		return nil, r.failed(crypto.ErrOpen) // somebody gave the row another class
	}
	key, err := crypto.ParseStreamKey(plain[:crypto.StreamKeySize])
	clear(plain)
	if err != nil {
		return nil, r.failed(err)
	}
	from := func(offset int64) (io.ReadCloser, error) { return f.store.Get(ctx, f.name(rec.ID), offset) }
	if r.StreamReader, err = key.Decrypt(from, rec.Size, crypto.StreamData(rec.TenantID, rec.ID)); err != nil {
		return nil, r.failed(err)
	}
	return r, nil
}

// opens reports whether the caller's view of a class is the whole: of a file
// there is no mask.
func (f *Files) opens(ctx context.Context, class string) bool {
	s, err := access.From(ctx)
	return err == nil && minimize.Pin(s, f.p.cfg.Minimize).View(s.Roles(), s.Purpose(), minimize.Class(class)) == minimize.Reveal
}

func (r *fileRecord) object() audit.Object {
	return audit.Object{Type: r.ResourceType(), Tenant: r.TenantID, Record: r.ID, Patient: r.SubjectID, Version: r.Version, Fields: []string{"Content"}}
}

// A fileReader is a revealed file.
type fileReader struct {
	*crypto.StreamReader
	files    *Files
	ctx      context.Context // of Open: what the reader may show ends with it
	scope    *access.Scope
	rec      *fileRecord
	ref      crypto.KeyRef
	recorded bool
}

// Read implements io.Reader.
func (r *fileReader) Read(p []byte) (int, error) {
	if err := r.mayRead(); err != nil {
		return 0, err
	}
	n, err := r.StreamReader.Read(p)
	if err != nil && err != io.EOF {
		err = r.failed(err)
	}
	return n, err
}

// mayRead reports whether the scope goes on and the patient's key lives: the
// keyring reads the key generation within its bound.
func (r *fileReader) mayRead() error {
	if s, err := access.From(r.ctx); err != nil || s != r.scope {
		return ErrNotRevealed
	}
	if _, ok := r.ctx.Value(txKey{}).(*txConn); ok {
		return nil
	}
	p := r.files.p
	found, err := p.keys.Lookup(r.ctx, &keyRows{plugin: p, conn: inner(p.pool)}, r.rec.TenantID, []crypto.KeyRef{r.ref})
	if err == nil {
		err = found[0].Err
	}
	// A key that was retired by a rotation has wrapped this file's anew.
	if errors.Is(err, crypto.ErrNoKey) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("storage: read file: %w", err)
	}
	return nil
}

// failed is an error of reading. What does not open, and what is gone, is
// recorded once.
func (r *fileReader) failed(cause error) error {
	if !errors.Is(cause, crypto.ErrOpen) && !errors.Is(cause, crypto.ErrFormat) && !errors.Is(cause, fs.ErrNotExist) {
		return fmt.Errorf("storage: read file: %w", cause)
	}
	err := fmt.Errorf("storage: read file: %w: %w", ErrUnavailable, cause)
	if r.recorded {
		return err
	}
	r.recorded = true
	_, rerr := r.files.p.cfg.Audit.Record(r.ctx, audit.Event{Type: audit.RevealFailed, Outcome: audit.Failure, Reason: audit.ReasonCell, Action: access.Read, Objects: []audit.Object{r.rec.object()}})
	return errors.Join(err, rerr)
}

// List returns the files about a patient that are in reach, the oldest first.
// It tells nothing of what is in a file that the policy withholds but that it is
// there. What it returns is recorded before, as a fetch.
func (f *Files) List(ctx context.Context, subject string) ([]FileInfo, error) {
	if err := f.opened(ctx); err != nil {
		return nil, err
	}
	var rows []fileRecord
	db := f.p.db.Session(&gorm.Session{NewDB: true, Context: ctx})
	if tx, ok := ctx.Value(txKey{}).(*txConn); ok && tx.plugin == f.p {
		db.Statement.ConnPool = tx
	}
	if err := db.Order("created_at, id").Find(&rows, "subject_id = ?", subject).Error; err != nil {
		return nil, err
	}
	m, err := f.p.fileModel()
	if err != nil {
		return nil, err
	}
	var rec recording
	out := make([]FileInfo, len(rows))
	for i := range rows {
		r := &rows[i]
		out[i] = FileInfo{ID: r.ID, Subject: r.SubjectID, Created: r.CreatedAt, Withheld: !f.opens(ctx, r.Class)}
		var shown []string
		if !out[i].Withheld {
			out[i].Class, out[i].Size = minimize.Class(r.Class), r.Size
			shown = []string{"Class", "Size"}
		}
		rec.add(m.rowOf(ctx, reflect.ValueOf(r).Elem()), shown, true)
	}
	fetch := &reading{plugin: f.p, ctx: ctx, main: m, q: &search{}}
	if err := fetch.record(&rec, -1); err != nil {
		return nil, err
	}
	return out, nil
}

// Delete deletes a file. It needs the right to delete the document, and is
// recorded as the deletion of a row is. In the transaction of [InTx] the file
// goes when that commits.
func (f *Files) Delete(ctx context.Context, id string) error {
	rec, err := f.find(ctx, id)
	if err != nil {
		return err
	}
	return f.transaction(ctx, func(db *gorm.DB, tx *txConn) error {
		if err := db.Delete(rec).Error; err != nil {
			return err
		}
		tx.onCommit(func() { f.discard(ctx, id) })
		return nil
	})
}

// sweepAge is how old what Sweep removes is, at least.
const sweepAge = 24 * time.Hour

// Sweep removes from the store what no row of the database names, and the files
// of shredded patients, if they have lain there for a day, and returns how many
// that were. Run it now and then, in an [access.Job] with the right to
// access.Maintain. It touches nothing of another database in the same store.
//
// After a database was put back from a backup, first see whether you want a
// newer one: what was stored since that backup cannot be opened without its
// rows, and Sweep removes it.
func (f *Files) Sweep(ctx context.Context) (removed int, err error) {
	if err := f.opened(ctx); err != nil {
		return 0, err
	}
	p := f.p
	if err := p.mayMaintain(ctx); err != nil {
		return 0, err
	}
	if err := p.tooOld(ctx); err != nil {
		return 0, err
	}
	var ids []string
	old := p.now().Add(-sweepAge)
	sweep := func() error {
		n, err := f.sweep(ctx, ids)
		removed += n
		ids = ids[:0]
		return err
	}
	err = f.store.List(ctx, f.prefix+"/", func(name string, stored time.Time) error {
		if stored.After(old) {
			return nil
		}
		if ids = append(ids, name[len(f.prefix)+1:]); len(ids) < keyChunk {
			return nil
		}
		return sweep()
	})
	if err == nil {
		err = sweep()
	}
	if err != nil {
		err = fmt.Errorf("storage: sweep files: %w", err)
	}
	ev := audit.Event{Type: audit.Checked, Outcome: audit.Success, Reason: audit.ReasonRepair, Action: access.Maintain, Count: removed, Objects: []audit.Object{{Type: fileRecord{}.ResourceType()}}}
	if err != nil {
		ev.Outcome = audit.Failure
	}
	_, rerr := p.recordAs(ctx, ev)
	return removed, errors.Join(err, rerr)
}

// sweep removes those of the blobs that no living row names.
func (f *Files) sweep(ctx context.Context, ids []string) (removed int, err error) {
	if len(ids) == 0 {
		return 0, nil
	}
	var living []string
	err = f.p.own(ctx, inner(f.p.pool)).Model(&fileRecord{}).Where("id IN ?", ids).
		Where("NOT EXISTS (SELECT 1 FROM phi_subject_keys k WHERE k.tenant_id = phi_files.tenant_id AND k.subject_id = phi_files.subject_id AND k.shredded = ?)", true).
		Pluck("id", &living).Error
	if err != nil {
		return 0, fmt.Errorf("read phi_files: %w", err)
	}
	lives := make(map[string]bool, len(living))
	for _, id := range living {
		lives[id] = true
	}
	for _, id := range ids {
		if lives[id] {
			continue
		}
		if err := f.store.Delete(ctx, f.name(id)); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

// shredFiles removes the bytes of a shredded patient's files, whose keys are
// gone. A process that has not opened the files leaves that to Sweep.
func (p *plugin) shredFiles(ctx context.Context, tenant, subject string) error {
	f := p.files.Load()
	if f == nil {
		return nil
	}
	var ids []string
	if err := p.own(ctx, inner(p.pool)).Model(&fileRecord{}).Where("tenant_id = ? AND subject_id = ?", tenant, subject).Pluck("id", &ids).Error; err != nil {
		return fmt.Errorf("read phi_files: %w", err)
	}
	for _, id := range ids {
		if err := f.store.Delete(ctx, f.name(id)); err != nil {
			return fmt.Errorf("remove a file: %w", err)
		}
	}
	return nil
}
