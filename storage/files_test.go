// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/minimize/minimizetest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

func TestBlobsInAFolder(t *testing.T) {
	t.Parallel()
	storagetest.TestBlobs(t, func(t *testing.T) storage.Blobs {
		s, err := storage.OpenFolder(filepath.Join(t.TempDir(), "files"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// A cabinet is a database with files and two patients.
type cabinet struct {
	*storagetest.DB
	files *storage.Files
	blobs *storagetest.Blobs
	clock *clock
	ctx   context.Context
	jane  string
	john  string
}

func newCabinet(t testing.TB, d gorm.Dialector, change func(*storage.Config)) *cabinet {
	t.Helper()
	c := &cabinet{blobs: new(storagetest.Blobs), clock: newClock(), ctx: physician(t)}
	c.clock.ns.Store(time.Now().UnixNano())
	allow := func(cfg *storage.Config) {
		cfg.Access, cfg.Now = accesstest.Allow(), c.clock.now
		if change != nil {
			change(cfg)
		}
	}
	if d == nil {
		c.DB = storagetest.NewDBWith(t, allow, &Patient{})
	} else {
		c.DB = storagetest.Open(t, d, allow, &Patient{})
	}
	var err error
	if c.files, err = storage.OpenFiles(c.DB.DB, storage.FilesConfig{Store: c.blobs}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []*string{&c.jane, &c.john} {
		p := Patient{Active: true}
		if err := c.WithContext(c.ctx).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		*id = p.ID
	}
	if err := storage.Settle(t.Context(), c.DB.DB); err != nil {
		t.Fatal(err)
	}
	c.Trail.Reset()
	return c
}

func (c *cabinet) put(t testing.TB, subject, text string) string {
	t.Helper()
	id, err := c.files.Put(c.ctx, subject, minimize.Clinical, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (c *cabinet) read(ctx context.Context, id string) (string, error) {
	r, err := c.files.Open(ctx, id)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), errors.Join(err, r.Close())
}

// blob is the name under which a file is stored.
func (c *cabinet) blob(t testing.TB, id string) string {
	t.Helper()
	for _, n := range c.blobs.Names() {
		if strings.HasSuffix(n, "/"+id) {
			return n
		}
	}
	t.Fatalf("no blob of %s", id)
	return ""
}

func (c *cabinet) sql(t testing.TB, query string, args ...any) {
	t.Helper()
	raw, err := c.DB.DB.DB()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Exec(mark(c.Name(), query), args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		c := newCabinet(t, d, nil)
		text := strings.Repeat("The patient coughs. ", 10000)
		id := c.put(t, c.jane, text)
		if stored := c.blobs.Bytes(c.blob(t, id)); bytes.Contains(stored, []byte("cough")) || len(stored) <= len(text) {
			t.Errorf("%d bytes are stored of %d", len(stored), len(text))
		}
		if got, err := c.read(c.ctx, id); err != nil || got != text {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		empty := c.put(t, c.jane, "")
		if got, err := c.read(c.ctx, empty); err != nil || got != "" {
			t.Errorf("the empty file = %q, %v", got, err)
		}
		c.put(t, c.john, "another's")
		list, err := c.files.List(c.ctx, c.jane)
		if err != nil || len(list) != 2 || !slices.ContainsFunc(list, func(f storage.FileInfo) bool {
			return f.ID == id && f.Subject == c.jane && f.Class == minimize.Clinical && f.Size == int64(len(text)) && !f.Created.IsZero() && !f.Withheld
		}) {
			t.Errorf("List = %+v, %v", list, err)
		}
		if err := c.files.Delete(c.ctx, id); err != nil {
			t.Fatal(err)
		}
		if _, err := c.files.Open(c.ctx, id); !errors.Is(err, gorm.ErrRecordNotFound) {
			t.Errorf("Open of a deleted file = %v", err)
		}
		if n := c.blobs.Names(); len(n) != 2 {
			t.Errorf("blobs: %q", n)
		}
		if err := storage.Settle(t.Context(), c.DB.DB); err != nil {
			t.Fatal(err)
		}
		doc := func(record string) []audit.Object {
			return []audit.Object{{Type: "document", Tenant: accesstest.Tenant, Record: record, Patient: c.jane, Fields: []string{"Content"}}}
		}
		audittest.Want(t, c.Trail,
			audit.Event{Type: audit.WriteAttempt, Action: access.Create}, audit.Event{Type: audit.Revealed, Objects: doc(id)},
			audit.Event{Type: audit.WriteAttempt, Action: access.Create}, audit.Event{Type: audit.Revealed, Objects: doc(empty)},
			audit.Event{Type: audit.WriteAttempt, Action: access.Create}, audit.Event{Type: audit.WriteAttempt, Action: access.Delete})
		committed := 0
		for _, e := range c.Trail.Events() {
			if e.Type == audit.Committed {
				committed++
			}
		}
		if committed != 4 {
			t.Errorf("%d writes committed, want 4", committed)
		}
	})
}

func TestFilesInAFolder(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	dir := filepath.Join(t.TempDir(), "files")
	files, err := storage.OpenFiles(db.DB, storage.FilesConfig{Folder: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx := physician(t)
	p := created(t, db, ctx, jane())
	id, err := files.Put(ctx, p.ID, minimize.Clinical, strings.NewReader("The patient coughs."))
	if err != nil {
		t.Fatal(err)
	}
	// A web app serves it, with ranges.
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := files.Open(ctx, id)
		if err != nil {
			http.Error(w, "no", http.StatusNotFound)
			return
		}
		defer func() { _ = f.Close() }()
		w.Header().Set("Content-Type", "text/plain")
		http.ServeContent(w, r, "", time.Time{}, f)
	}))
	defer web.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Range", "bytes=4-10")
	res, err := web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil || string(body) != "patient" || res.StatusCode != http.StatusPartialContent {
		t.Errorf("a range = %d %q, %v", res.StatusCode, body, err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("cough")) || strings.Contains(path, p.ID) {
			t.Errorf("%s tells", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenFilesRefuses(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t)
	for name, cfg := range map[string]storage.FilesConfig{"nothing": {}, "both": {Folder: t.TempDir(), Store: new(storagetest.Blobs)}, "a file": {Folder: "files_test.go"}} {
		if _, err := storage.OpenFiles(db.DB, cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := storage.OpenFiles(db.DB, storage.FilesConfig{Folder: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if _, err := storage.OpenFiles(db.DB, storage.FilesConfig{Folder: t.TempDir()}); err == nil {
		t.Error("two stores of one database")
	}
	bare, err := storage.Open(openSQLite(t), config(t))
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, bare)
	if _, err := storage.OpenFiles(bare, storage.FilesConfig{Folder: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "storage.Migrate") {
		t.Errorf("an unmigrated database = %v", err)
	}
}

// Only who may see the class in full opens a file, only who may set it stores
// one, and another tenant finds nothing.
func TestFilesAreForThoseWhoMay(t *testing.T) {
	t.Parallel()
	masked := minimizetest.Policy(t, "physician", access.Treatment, minimize.Mask, minimize.Change, minimize.MRN)
	for name, policy := range map[string]*minimize.Policy{"masked": masked, "withheld": minimizetest.Policy(t, "physician", access.Treatment, minimize.Withhold, minimize.Change, minimize.MRN)} {
		c := newCabinet(t, nil, func(cfg *storage.Config) { cfg.Minimize = policy })
		id, err := c.files.Put(c.ctx, c.jane, minimize.MRN, strings.NewReader("MRN-1"))
		if err != nil {
			t.Fatal(err)
		}
		c.Trail.Reset()
		if _, err := c.files.Open(c.ctx, id); !errors.Is(err, storage.ErrWithheld) {
			t.Errorf("%s: Open = %v, want ErrWithheld", name, err)
		}
		audittest.Want(t, c.Trail, audit.Event{Type: audit.Denied, Reason: audit.ReasonMinimum, Action: access.Read})
		c.Trail.Reset()
		if list, err := c.files.List(c.ctx, c.jane); err != nil || len(list) != 1 || !list[0].Withheld || list[0].Class != "" || list[0].Size != 0 || list[0].ID != id {
			t.Errorf("%s: List = %+v, %v", name, list, err)
		}
		audittest.Want(t, c.Trail, audit.Event{Type: audit.Fetched, Action: access.Read, Objects: []audit.Object{{Type: "document", Record: id, Patient: c.jane}}})
		for _, ev := range c.Trail.Events() {
			if ev.Type == audit.Fetched && len(ev.Objects[0].Fields) != 0 {
				t.Errorf("%s: List is recorded with %q, of which nothing was shown", name, ev.Objects[0].Fields)
			}
		}
		if _, err := c.files.Put(c.ctx, c.jane, minimize.Clinical, strings.NewReader("x")); !errors.Is(err, storage.ErrNotPermitted) {
			t.Errorf("%s: Put without the right to the class = %v", name, err)
		}
		if n := c.blobs.Names(); len(n) != 1 {
			t.Errorf("%s: what was refused is stored: %q", name, n)
		}
	}
	c := newCabinet(t, nil, nil)
	id := c.put(t, c.jane, "text")
	other := accesstest.AsIn(t, t.Context(), "t-other", "physician", access.Treatment)
	if _, err := c.files.Open(other, id); !errors.Is(err, gorm.ErrRecordNotFound) {
		t.Errorf("another tenant opens: %v", err)
	}
	if err := c.files.Delete(other, id); !errors.Is(err, gorm.ErrRecordNotFound) {
		t.Errorf("another tenant deletes: %v", err)
	}
	if list, err := c.files.List(other, c.jane); err != nil || len(list) != 0 {
		t.Errorf("another tenant lists: %v, %v", list, err)
	}
	for _, ctx := range []context.Context{t.Context(), accesstest.As(t, t.Context(), "physician", "")} {
		if _, err := c.files.Open(ctx, id); err == nil {
			t.Error("Open without a principal or purpose")
		}
		if _, err := c.files.Put(ctx, c.jane, minimize.Clinical, strings.NewReader("x")); err == nil {
			t.Error("Put without a principal or purpose")
		}
		if err := c.files.Delete(ctx, id); err == nil {
			t.Error("Delete without a principal or purpose")
		}
	}
	for name, put := range map[string]func() (string, error){
		"an unknown class":     func() (string, error) { return c.files.Put(c.ctx, c.jane, "nonsense", strings.NewReader("x")) },
		"no class":             func() (string, error) { return c.files.Put(c.ctx, c.jane, "", strings.NewReader("x")) },
		"a subject that is no": func() (string, error) { return c.files.Put(c.ctx, "jane", minimize.Clinical, strings.NewReader("x")) },
	} {
		if _, err := put(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := c.files.Open(c.ctx, "../"+id); !errors.Is(err, gorm.ErrRecordNotFound) {
		t.Errorf("a path as an ID = %v", err)
	}
	for _, query := range []string{"SELECT * FROM phi_files", "DELETE FROM phi_files"} {
		if err := c.WithContext(c.ctx).Exec(query).Error; !errors.Is(err, storage.ErrRefused) {
			t.Errorf("%s = %v", query, err)
		}
	}
}

func TestAListOfFilesIsRecorded(t *testing.T) {
	t.Parallel()
	engine := accesstest.Allow()
	c := newCabinet(t, nil, func(cfg *storage.Config) { cfg.Access = engine })
	c.Trail.Reset()
	if list, err := c.files.List(c.ctx, c.jane); err != nil || len(list) != 0 || len(c.Trail.Events()) != 0 {
		t.Errorf("List of nothing = %+v, %v, recorded as %+v", list, err, c.Trail.Events())
	}
	a, b := c.put(t, c.jane, "text"), c.put(t, c.jane, "another")
	if err := storage.Settle(c.ctx, c.DB.DB); err != nil {
		t.Fatal(err)
	}
	c.Trail.Reset()
	list, err := c.files.List(c.ctx, c.jane)
	if err != nil || len(list) != 2 || list[0].Class != minimize.Clinical || list[0].Size != 4 || list[1].Size != 7 {
		t.Errorf("List = %+v, %v", list, err)
	}
	ev := c.Trail.Events()
	if len(ev) != 1 || ev[0].Type != audit.Fetched || ev[0].Action != access.Read || len(ev[0].Objects) != 2 {
		t.Fatalf("a list is recorded as %+v, want one fetch of two documents", ev)
	}
	for i, id := range []string{a, b} {
		if o := ev[0].Objects[i]; o.Type != "document" || o.Record != id || o.Patient != c.jane || !slices.Equal(o.Fields, []string{"Class", "Size"}) {
			t.Errorf("document %d is recorded as %+v", i, o)
		}
	}
	full := errors.New("full")
	c.Trail.Fail(full)
	if list, err := c.files.List(c.ctx, c.jane); !errors.Is(err, full) || list != nil {
		t.Errorf("List that cannot be recorded = %+v, %v", list, err)
	}
	c.Trail.Fail(nil)
	engine.FailAfter(1, errors.New("engine down")) // behind the filter
	if list, err := c.files.List(c.ctx, c.jane); err == nil || list != nil {
		t.Errorf("List that nobody allowed = %+v, %v", list, err)
	}
	engine.Fail(nil)
}

func TestADeniedFileIsNotTaken(t *testing.T) {
	t.Parallel()
	deny := accesstest.Allow()
	c := newCabinet(t, nil, func(cfg *storage.Config) { cfg.Access = deny })
	id := c.put(t, c.jane, "text")
	c.Trail.Reset()
	deny.Fail(errors.New("engine down"))
	read := false
	r := io.MultiReader(readerFunc(func([]byte) (int, error) { read = true; return 0, io.EOF }))
	if _, err := c.files.Put(c.ctx, c.jane, minimize.Clinical, r); err == nil || read {
		t.Errorf("Put = %v, read %v", err, read)
	}
	if _, err := c.files.Open(c.ctx, id); err == nil {
		t.Error("Open works with the engine down")
	}
	if err := c.files.Delete(c.ctx, id); err == nil {
		t.Error("Delete works with the engine down")
	}
	deny.Fail(nil)
	if got, err := c.read(c.ctx, id); err != nil || got != "text" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Nothing opens and nothing is stored that is not recorded.
func TestFilesAreRecordedFirst(t *testing.T) {
	t.Parallel()
	c := newCabinet(t, nil, nil)
	id := c.put(t, c.jane, "text")
	c.blobs.Read()
	c.Trail.Fail(errors.New("disk full"))
	if _, err := c.files.Open(c.ctx, id); !errors.Is(err, audit.ErrUnavailable) || c.blobs.Read() != 0 {
		t.Errorf("Open = %v", err)
	}
	if _, err := c.files.Put(c.ctx, c.jane, minimize.Clinical, strings.NewReader("x")); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Put = %v", err)
	}
	if err := c.files.Delete(c.ctx, id); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Delete = %v", err)
	}
	c.Trail.Fail(nil)
	if n := c.blobs.Names(); len(n) != 1 {
		t.Errorf("blobs: %q", n)
	}
	if got, err := c.read(c.ctx, id); err != nil || got != "text" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// Whatever is changed in the store or in the table, no wrong byte comes out,
// and it is recorded.
func TestChangedFilesAreFound(t *testing.T) {
	t.Parallel()
	const size = 200_000
	text := string(pattern(size))
	for name, change := range map[string]func(t *testing.T, c *cabinet, id, other string){
		"cut": func(t *testing.T, c *cabinet, id, _ string) {
			n := c.blob(t, id)
			c.blobs.Replace(n, c.blobs.Bytes(n)[:size-1])
		},
		"cut at a segment": func(t *testing.T, c *cabinet, id, _ string) {
			n := c.blob(t, id)
			c.blobs.Replace(n, c.blobs.Bytes(n)[:2*65536])
		},
		"cut at a segment and said so": func(t *testing.T, c *cabinet, id, _ string) {
			n := c.blob(t, id)
			c.blobs.Replace(n, c.blobs.Bytes(n)[:2*65536])
			c.sql(t, "UPDATE phi_files SET size = ? WHERE id = ?", 2*65536-40-32, id)
		},
		"appended to": func(t *testing.T, c *cabinet, id, _ string) {
			n := c.blob(t, id)
			c.blobs.Replace(n, append(c.blobs.Bytes(n), 0))
		},
		"reordered": func(t *testing.T, c *cabinet, id, _ string) {
			n := c.blob(t, id)
			b := c.blobs.Bytes(n)
			c.blobs.Replace(n, slices.Concat(b[:65536], b[2*65536:3*65536], b[65536:2*65536], b[3*65536:]))
		},
		"flipped in the middle": func(t *testing.T, c *cabinet, id, _ string) {
			n := c.blob(t, id)
			b := c.blobs.Bytes(n)
			b[100_000] ^= 1
			c.blobs.Replace(n, b)
		},
		"replaced by another's bytes": func(t *testing.T, c *cabinet, id, other string) {
			c.blobs.Replace(c.blob(t, id), c.blobs.Bytes(c.blob(t, other)))
		},
		"removed": func(t *testing.T, c *cabinet, id, _ string) { c.blobs.Replace(c.blob(t, id), nil) },
		"another's key and bytes": func(t *testing.T, c *cabinet, id, other string) {
			c.blobs.Replace(c.blob(t, id), c.blobs.Bytes(c.blob(t, other)))
			c.sql(t, "UPDATE phi_files SET content = (SELECT content FROM (SELECT * FROM phi_files) x WHERE x.id = ?) WHERE id = ?", other, id)
		},
		"given to another patient": func(t *testing.T, c *cabinet, id, _ string) {
			c.sql(t, "UPDATE phi_files SET subject_id = ? WHERE id = ?", c.john, id)
		},
		"given another class": func(t *testing.T, c *cabinet, id, _ string) {
			c.sql(t, "UPDATE phi_files SET class = ? WHERE id = ?", string(minimize.Text), id)
		},
		"given another size": func(t *testing.T, c *cabinet, id, _ string) {
			c.sql(t, "UPDATE phi_files SET size = ? WHERE id = ?", 10, id)
		},
		"its key is bytes": func(t *testing.T, c *cabinet, id, _ string) {
			c.sql(t, "UPDATE phi_files SET content = ? WHERE id = ?", append([]byte{0xF9, 1, 0, 0, 0, 1}, make([]byte, 70)...), id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCabinet(t, nil, nil)
			id, other := c.put(t, c.jane, text), c.put(t, c.john, strings.Repeat("x", size))
			change(t, c, id, other)
			c.Trail.Reset()
			got, err := c.read(c.ctx, id)
			var re *storage.RevealError
			if err == nil || !errors.Is(err, storage.ErrUnavailable) && !errors.As(err, &re) || !strings.HasPrefix(text, got) || len(got) > size/2 {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if strings.Contains(err.Error(), c.jane) || strings.Contains(err.Error(), c.john) {
				t.Errorf("the error names a patient: %v", err)
			}
			failed := 0
			for _, e := range c.Trail.Events() {
				if e.Type == audit.RevealFailed && e.Reason == audit.ReasonCell {
					failed++
				}
			}
			if failed != 1 {
				t.Errorf("%d events of what failed, want 1", failed)
			}
			if got, err := c.read(c.ctx, other); err != nil || len(got) != size {
				t.Errorf("the other file: %d bytes, %v", len(got), err)
			}
		})
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// A range reads what it needs and little more.
func TestARangeOfAFileReadsNotTheWhole(t *testing.T) {
	t.Parallel()
	c := newCabinet(t, nil, nil)
	b := pattern(3 << 20)
	id, err := c.files.Put(c.ctx, c.jane, minimize.Clinical, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c.blobs.Read()
	r, err := c.files.Open(c.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if n := c.blobs.Read(); n > 70_000 {
		t.Errorf("Open reads %d bytes", n)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		at := rng.IntN(len(b) - 1000)
		if _, err := r.Seek(int64(at), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 1000)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, b[at:at+1000]) {
			t.Fatalf("from %d: %v", at, err)
		}
		if n := c.blobs.Read(); n > 2*65536 {
			t.Errorf("a range of 1,000 reads %d bytes", n)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// What was opened ends with its scope, and with the patient's key.
func TestAnOpenFileEnds(t *testing.T) {
	t.Parallel()
	c := newCabinet(t, nil, nil)
	id := c.put(t, c.jane, strings.Repeat("x", 300_000))
	ctx, cancel := context.WithCancel(t.Context())
	ctx = accesstest.As(t, ctx, "physician", access.Treatment)
	r, err := c.files.Open(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, storage.ErrNotRevealed) {
		t.Errorf("after its scope: %d bytes, %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if r, err = c.files.Open(c.ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	c.sql(t, "UPDATE phi_subject_keys SET wrapped = NULL, shredded = ? WHERE subject_id = ?", true, c.jane)
	c.sql(t, "UPDATE phi_meta SET generation = generation + 1")
	c.clock.advance(6 * time.Second)
	if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, crypto.ErrShredded) {
		t.Errorf("after its key: %d bytes, %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestAShreddedPatientsFilesDie(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		c := newCabinet(t, d, nil)
		id, kept := c.put(t, c.jane, "text"), c.put(t, c.john, "text")
		bytes := c.blobs.Bytes(c.blob(t, id))
		name := c.blob(t, id)
		if _, err := storage.Shred(officer(t), c.DB.DB, c.jane, order); err != nil {
			t.Fatal(err)
		}
		if n := c.blobs.Names(); len(n) != 1 || !strings.HasSuffix(n[0], kept) {
			t.Errorf("blobs: %q", n)
		}
		c.blobs.Replace(name, bytes) // from a backup of the store
		if got, err := c.read(c.ctx, id); got != "" || err == nil {
			t.Errorf("a shredded file = %q, %v", got, err)
		}
		if _, err := c.files.Put(c.ctx, c.jane, minimize.Clinical, strings.NewReader("more")); !errors.Is(err, crypto.ErrShredded) {
			t.Errorf("Put for a shredded patient = %v", err)
		}
		if got, err := c.read(c.ctx, kept); got != "text" || err != nil {
			t.Errorf("the other's file = %q, %v", got, err)
		}
		c.clock.advance(25 * time.Hour)
		if n, err := c.files.Sweep(maintainer(t)); n != 1 || err != nil { // what the backup brought
			t.Errorf("Sweep = %d, %v", n, err)
		}
		if n := c.blobs.Names(); len(n) != 1 || !strings.HasSuffix(n[0], kept) {
			t.Errorf("blobs after Sweep: %q", n)
		}
	})
}

// What a crash between the blob and its row leaves is unreadable, and removed.
func TestSweepRemovesWhatNoRowNames(t *testing.T) {
	t.Parallel()
	c := newCabinet(t, nil, nil)
	kept := c.put(t, c.jane, "kept")
	name := c.blob(t, kept)
	orphan := strings.TrimSuffix(name, kept) + "0190a6b0-0000-7000-8000-000000000000"
	elsewhere := "another-database/0190a6b0-0000-7000-8000-000000000000"
	for _, n := range []string{orphan, orphan + ".part", elsewhere} {
		c.blobs.Replace(n, []byte("sealed"))
	}
	if _, err := c.files.Sweep(c.ctx); err == nil && c.blobs.Bytes(orphan) == nil {
		t.Error("a fresh blob was swept: it may be one that is being put")
	}
	c.clock.advance(25 * time.Hour)
	job := maintainer(t)
	c.blobs.Fail(errors.New("down"))
	if n, err := c.files.Sweep(job); err == nil || n != 0 {
		t.Errorf("Sweep with the store down = %d, %v", n, err)
	}
	c.blobs.Fail(nil)
	if n, err := c.files.Sweep(job); n != 2 || err != nil {
		t.Errorf("Sweep = %d, %v", n, err)
	}
	if n := c.blobs.Names(); !slices.Equal(n, slices.Sorted(slices.Values([]string{name, elsewhere}))) {
		t.Errorf("left: %q", n)
	}
	if got, err := c.read(c.ctx, kept); got != "kept" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if !slices.ContainsFunc(c.Trail.Events(), func(e audit.Stored) bool { return e.Type == audit.Checked && e.Count == 2 }) {
		t.Error("the sweep is not recorded")
	}
	strict := newCabinet(t, nil, func(cfg *storage.Config) { cfg.Access = config(t).Access })
	if _, err := strict.files.Sweep(strict.ctx); err == nil {
		t.Error("a physician sweeps")
	}
}

// A file is there when the transaction commits, and not when it does not.
func TestFilesFollowTheirTransaction(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		c := newCabinet(t, d, nil)
		kept := c.put(t, c.jane, "kept")
		undo := errors.New("undo")
		var id string
		err := c.WithContext(c.ctx).Transaction(func(tx *gorm.DB) error {
			ctx := storage.InTx(c.ctx, tx)
			var err error
			if id, err = c.files.Put(ctx, c.jane, minimize.Clinical, strings.NewReader("text")); err != nil {
				return err
			}
			if got, err := c.read(ctx, id); got != "text" || err != nil {
				t.Errorf("inside: %q, %v", got, err)
			}
			if list, err := c.files.List(ctx, c.jane); err != nil || len(list) != 2 {
				t.Errorf("inside: %v, %v", list, err)
			}
			if err := c.files.Delete(ctx, kept); err != nil {
				return err
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
		if n := c.blobs.Names(); len(n) != 1 || !strings.HasSuffix(n[0], kept) {
			t.Errorf("after a rollback: %q", n)
		}
		if got, err := c.read(c.ctx, kept); got != "kept" || err != nil {
			t.Errorf("after a rollback: %q, %v", got, err)
		}
		var inner string
		err = c.WithContext(c.ctx).Transaction(func(tx *gorm.DB) error {
			err := tx.Transaction(func(sp *gorm.DB) error {
				var err error
				if inner, err = c.files.Put(storage.InTx(c.ctx, sp), c.jane, minimize.Clinical, strings.NewReader("inner")); err != nil {
					return err
				}
				return errors.Join(undo, c.files.Delete(storage.InTx(c.ctx, sp), kept))
			})
			if !errors.Is(err, undo) {
				return err
			}
			id, err = c.files.Put(storage.InTx(c.ctx, tx), c.jane, minimize.Clinical, strings.NewReader("outer"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.read(c.ctx, id); got != "outer" || err != nil {
			t.Errorf("outer: %q, %v", got, err)
		}
		if _, err := c.files.Open(c.ctx, inner); !errors.Is(err, gorm.ErrRecordNotFound) {
			t.Errorf("inner: %v", err)
		}
		if got, err := c.read(c.ctx, kept); got != "kept" || err != nil {
			t.Errorf("kept: %q, %v", got, err)
		}
		if n := c.blobs.Names(); len(n) != 2 {
			t.Errorf("blobs: %q", n)
		}
		if err := c.WithContext(c.ctx).Transaction(func(tx *gorm.DB) error { return c.files.Delete(storage.InTx(c.ctx, tx), kept) }); err != nil {
			t.Fatal(err)
		}
		if n := c.blobs.Names(); len(n) != 1 {
			t.Errorf("blobs: %q", n)
		}
	})
}

// A source or a store that fails leaves no file, and is no sign of an attack.
func TestAPutThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	c := newCabinet(t, nil, nil)
	broken := errors.New("broken")
	for _, n := range []int{0, 10, 1 << 20} {
		r := io.MultiReader(bytes.NewReader(make([]byte, n)), iotest.ErrReader(broken))
		if _, err := c.files.Put(c.ctx, c.jane, minimize.Clinical, r); !errors.Is(err, broken) {
			t.Errorf("a source that breaks after %d bytes = %v", n, err)
		}
	}
	c.blobs.Fail(broken)
	if _, err := c.files.Put(c.ctx, c.jane, minimize.Clinical, bytes.NewReader(make([]byte, 1<<20))); !errors.Is(err, broken) {
		t.Errorf("a store that is down = %v", err)
	}
	c.blobs.Fail(nil)
	if n := c.blobs.Names(); len(n) != 0 {
		t.Errorf("blobs: %q", n)
	}
	if list, err := c.files.List(c.ctx, c.jane); err != nil || len(list) != 0 {
		t.Errorf("List = %v, %v", list, err)
	}
	id := c.put(t, c.jane, strings.Repeat("x", 300_000))
	c.Trail.Reset()
	c.blobs.Fail(broken)
	if _, err := c.files.Open(c.ctx, id); !errors.Is(err, broken) || errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Open with the store down = %v", err)
	}
	for _, e := range c.Trail.Events() {
		if e.Type == audit.RevealFailed {
			t.Error("a store that is down is recorded as bytes that do not open")
		}
	}
	if err := c.files.Delete(c.ctx, id); err != nil {
		t.Errorf("Delete = %v", err)
	}
	if _, err := c.files.Open(c.ctx, id); !errors.Is(err, gorm.ErrRecordNotFound) {
		t.Errorf("Open of a deleted file = %v", err)
	}
	if n := c.blobs.Names(); len(n) != 1 { // left to Sweep
		t.Errorf("blobs: %q", n)
	}
}

// Memory does not grow with the file.
func TestFilesTakeConstantMemory(t *testing.T) {
	size := int64(16 << 20)
	if os.Getenv("PART164_TEST_LONG") == "1" {
		size = 256 << 20
	}
	db := storagetest.NewDB(t, &Patient{})
	files, err := storage.OpenFiles(db.DB, storage.FilesConfig{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx := physician(t)
	p := created(t, db, ctx, jane())
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, uint64(0)
	var passed int64
	look := func(n int) {
		if passed += int64(n); passed >= size/8 {
			passed = 0
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
	src := rand.NewChaCha8([32]byte{7})
	sum := sha256.New()
	id, err := files.Put(ctx, p.ID, minimize.Clinical, io.TeeReader(io.LimitReader(readerFunc(func(b []byte) (int, error) { look(len(b)); return src.Read(b) }), size), sum))
	if err != nil {
		t.Fatal(err)
	}
	r, err := files.Open(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	back := sha256.New()
	n, err := io.Copy(back, io.TeeReader(r, writerFunc(func(b []byte) (int, error) { look(len(b)); return len(b), nil })))
	if err != nil || n != size || !bytes.Equal(sum.Sum(nil), back.Sum(nil)) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if grown := int64(most) - int64(before); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes for a file of %d", grown, size)
	} else {
		t.Logf("the heap grew by %d KiB for a file of %d MiB", grown>>10, size>>20)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Files follow the jobs as rows do: their keys are sealed anew, their bytes are
// left alone; and Check holds them against the trail.
func TestFilesFollowTheJobs(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := newWard(t, d, 3)
		ctx := physician(t)
		blobs := new(storagetest.Blobs)
		files, err := storage.OpenFiles(w.db.DB, storage.FilesConfig{Store: blobs})
		if err != nil {
			t.Fatal(err)
		}
		into, dup := w.patients[0], w.patients[1]
		text := strings.Repeat("scan ", 30_000)
		id, err := files.Put(ctx, dup, minimize.Clinical, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		name := blobs.Names()[0]
		sealed := blobs.Bytes(name)
		opens := func(when string) {
			t.Helper()
			r, err := files.Open(ctx, id)
			if err != nil {
				t.Fatalf("%s: Open = %v", when, err)
			}
			if b, err := io.ReadAll(r); err != nil || string(b) != text || r.Close() != nil {
				t.Errorf("%s: %d bytes, %v", when, len(b), err)
			}
			if !bytes.Equal(blobs.Bytes(name), sealed) {
				t.Errorf("%s: the bytes in the store were changed", when)
			}
		}
		lists := func(when, subject string, want int) {
			t.Helper()
			if list, err := files.List(ctx, subject); err != nil || len(list) != want {
				t.Errorf("%s: List = %+v, %v, want %d", when, list, err, want)
			}
		}
		opens("new")
		cell := storagetest.RawColumn(t, w.db.DB, "phi_files", "content", id)
		runJob(t, w.db, storage.Job{Kind: storage.RotateSubjectKeys, Subject: dup, Grace: time.Millisecond})
		if bytes.Equal(cell, storagetest.RawColumn(t, w.db.DB, "phi_files", "content", id)) {
			t.Error("the key of the file was not sealed anew")
		}
		opens("after the rotation of its patient's key")
		runJob(t, w.db, storage.Job{Kind: storage.MergePatients, Subject: dup, Into: into})
		opens("after a merge")
		lists("after a merge", into, 1)
		lists("after a merge", dup, 0)
		runJob(t, w.db, storage.Job{Kind: storage.UnmergePatients, Subject: dup, Into: into})
		opens("after the merge was undone")
		lists("after the merge was undone", dup, 1)
		if err := storage.Settle(t.Context(), w.db.DB); err != nil {
			t.Fatal(err)
		}
		report, err := storage.Check(maintenance(t), w.db.DB, nil)
		if err != nil || len(report.Findings) != 0 {
			t.Errorf("Check = %+v, %v", report.Findings, err)
		}
		raw, err := w.db.DB.DB()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raw.Exec(mark(w.db.Name(), "UPDATE phi_files SET content = ? WHERE id = ?"), cell, id); err != nil {
			t.Fatal(err)
		}
		if report, err = storage.Check(maintenance(t), w.db.DB, nil); err != nil || len(report.Findings) == 0 {
			t.Errorf("Check of an older key put back = %+v, %v", report.Findings, err)
		}
	})
}
