// SPDX-License-Identifier: Apache-2.0

package witness_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/witness"
)

// journal opens a journal for development and returns its folder.
func journal(t testing.TB) (*audit.Journal, string) {
	t.Helper()
	dir := filepath.Join(audittest.Dir(t), "audit")
	return open(t, dir), dir
}

func open(t testing.TB, dir string) *audit.Journal {
	t.Helper()
	j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10, CheckpointEvery: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func record(t testing.TB, j *audit.Journal, n int) {
	t.Helper()
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
	for range n {
		if _, err := j.Record(ctx, audit.Event{Type: audit.Searched, Outcome: audit.Success, Count: 2}); err != nil {
			t.Fatal(err)
		}
	}
}

// grow records until the journal has a checkpoint over more than size lines, and
// than its last one.
func grow(t testing.TB, j *audit.Journal, size uint64) audit.Checkpoint {
	t.Helper()
	was, err := j.LastCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	size = max(size, was.Size)
	record(t, j, 3)
	for range 2000 {
		cp, err := j.LastCheckpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if cp.Size > size+3 {
			return cp
		}
		select {
		case <-t.Context().Done():
		case <-time.After(5 * time.Millisecond): // the journal signs by itself
		}
	}
	t.Fatal("the journal signs no checkpoint")
	return audit.Checkpoint{}
}

func publicKey(t testing.TB, dir string) string {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(key))
}

type fixture struct {
	w      *witness.Witness
	path   string
	signer string
	key    string
}

func newWitness(t testing.TB, logs ...string) *fixture {
	t.Helper()
	f := &fixture{path: filepath.Join(t.TempDir(), "witness.jsonl")}
	var err error
	if f.signer, f.key, err = witness.GenerateKey("witness.test/w1"); err != nil {
		t.Fatal(err)
	}
	f.open(t, logs...)
	return f
}

func (f *fixture) open(t testing.TB, logs ...string) {
	t.Helper()
	w, err := witness.Open(f.path, witness.Config{Key: f.signer, Logs: logs})
	if err != nil {
		t.Fatal(err)
	}
	f.w = w
	t.Cleanup(func() { _ = w.Close() })
}

// listen serves h over TLS.
func listen(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that a test cuts off
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func prefixOf(t testing.TB, h http.Handler) string { return listen(t, h).URL + "/w1" }

// serve serves h over TLS and returns a client that trusts it.
func serve(t testing.TB, h http.Handler, key string) *witness.Client {
	t.Helper()
	srv := listen(t, h)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	c, err := witness.NewClient(srv.URL+"/w1", key, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// submitters are the same witness in this process and over HTTP.
func submitters(t *testing.T, test func(t *testing.T, f *fixture, s witness.Submitter, j *audit.Journal, dir string)) {
	for _, name := range []string{"file", "http"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, dir := journal(t)
			f := newWitness(t, publicKey(t, dir))
			var s witness.Submitter = f.w
			if name == "http" {
				s = serve(t, f.w, f.key)
			}
			test(t, f, s, j, dir)
		})
	}
}

func TestWitnessCosignsWhatGoesOn(t *testing.T) {
	t.Parallel()
	submitters(t, func(t *testing.T, f *fixture, s witness.Submitter, j *audit.Journal, dir string) {
		size := uint64(0)
		for range 4 {
			cp := grow(t, j, size)
			proof, err := j.Consistency(t.Context(), size, cp.Size)
			if err != nil {
				t.Fatal(err)
			}
			sigs, err := s.AddCheckpoint(t.Context(), size, proof, cp.Note)
			if err != nil {
				t.Fatal(err)
			}
			as, err := witness.Cosigned(append(bytes.Clone(cp.Note), sigs...), f.key)
			if err != nil || len(as) != 1 || as[0].Size != cp.Size || as[0].Root != cp.Root || as[0].By != "witness.test/w1" || time.Since(as[0].Time).Abs() > time.Minute {
				t.Fatalf("cosigned %+v, %v", as, err)
			}
			size = cp.Size
		}
		// What it saw is what Verify asks for, and survives a restart.
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		as, err := witness.Read(f.path, witness.Trust{Witnesses: []string{f.key}})
		if err != nil || len(as) != 4 || as[3].Size != size {
			t.Fatalf("%d anchors, %v", len(as), err)
		}
		r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Anchors: as})
		if err != nil || !r.Witnessed() || r.Broken() || r.Completeness.Anchor.Size != size || r.Completeness.Tail == 0 {
			t.Errorf("%v, %v", r.Completeness, err)
		}
		if err := f.w.Close(); err != nil {
			t.Fatal(err)
		}
		f.open(t, publicKey(t, dir))
		if roster := f.w.Roster(); len(roster) != 1 || roster[0].Size != size {
			t.Errorf("after a restart: %+v", roster)
		}
	})
}

func TestWitnessRefuses(t *testing.T) {
	t.Parallel()
	submitters(t, func(t *testing.T, f *fixture, s witness.Submitter, j *audit.Journal, dir string) {
		copied := filepath.Join(audittest.Dir(t), "copy")
		first := grow(t, j, 0)
		if _, err := s.AddCheckpoint(t.Context(), 0, nil, first.Note); err != nil {
			t.Fatal(err)
		}
		// A copy of the folder goes on by itself, with the real keys.
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		kek, err := os.ReadFile(dir + ".kek")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied+".kek", kek, 0o600); err != nil {
			t.Fatal(err)
		}
		real, fork := open(t, dir), open(t, copied)
		second := grow(t, real, first.Size)
		record(t, fork, 5)
		forked := grow(t, fork, second.Size)

		proof, err := real.Consistency(t.Context(), first.Size, second.Size)
		if err != nil {
			t.Fatal(err)
		}
		wrong := slices.Clone(proof)
		wrong[0] = bytes.Repeat([]byte{1}, 32)
		add := func(name string, want error, old uint64, proof [][]byte, note []byte) {
			t.Helper()
			var size *witness.SizeError
			_, err := s.AddCheckpoint(t.Context(), old, proof, note)
			if want == nil && (!errors.As(err, &size)) || want != nil && !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		add("no proof", witness.ErrFork, first.Size, nil, second.Note)
		add("wrong proof", witness.ErrFork, first.Size, wrong, second.Note)
		add("another old size", nil, first.Size-1, proof, second.Note)
		add("old size over the new", witness.ErrRequest, second.Size+1, proof, second.Note)
		add("edited", witness.ErrSignature, first.Size, proof, bytes.Replace(second.Note, []byte("\ntime 2"), []byte("\ntime 3"), 1))
		add("of an unknown journal", witness.ErrUnknownLog, 0, nil, []byte("part164/other\n1\n\n\n— x y\n"))
		add("nothing", witness.ErrUnknownLog, 0, nil, nil)
		if _, err := s.AddCheckpoint(t.Context(), first.Size, proof, second.Note); err != nil {
			t.Fatal(err)
		}
		// Now it has seen the real one: the fork, and what is smaller, have no
		// proof that it takes.
		add("smaller", witness.ErrRequest, second.Size, nil, first.Note)
		forkProof, err := fork.Consistency(t.Context(), second.Size, forked.Size)
		if err != nil {
			t.Fatal(err)
		}
		add("fork", witness.ErrFork, second.Size, forkProof, forked.Note)
		if _, err := witness.Submit(t.Context(), fork, s); !errors.Is(err, witness.ErrFork) {
			t.Errorf("the fork submits: %v", err)
		}
		if size, err := witness.Submit(t.Context(), real, s); err != nil || size < second.Size {
			t.Errorf("the real one submits: %d, %v", size, err)
		}
		as, err := witness.Read(f.path, witness.Trust{Witnesses: []string{f.key}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(real.Close(), fork.Close()); err != nil {
			t.Fatal(err)
		}
		r, err := audit.Verify(t.Context(), copied, audit.VerifyConfig{Anchors: as})
		if err != nil || r.Completeness.Length != audit.Forked || r.Completeness.Agrees.Size != first.Size {
			t.Errorf("the fork's folder: %v, %v", r.Completeness, err)
		}
	})
}

// A tree of the same size with another root.
func TestWitnessRefusesAnotherTreeOfTheSameSize(t *testing.T) {
	t.Parallel()
	skey, vkey, err := note.GenerateKey(rand.Reader, "part164/jx")
	if err != nil {
		t.Fatal(err)
	}
	f := newWitness(t, vkey)
	for name, s := range map[string]witness.Submitter{"file": f.w, "http": serve(t, f.w, f.key)} {
		a, b := sign(t, skey, 7, 1), sign(t, skey, 7, 2)
		if _, err := s.AddCheckpoint(t.Context(), 0, nil, a); err != nil {
			var size *witness.SizeError
			if !errors.As(err, &size) || size.Size != 7 {
				t.Fatal(name, err)
			}
		}
		if _, err := s.AddCheckpoint(t.Context(), 7, nil, b); !errors.Is(err, witness.ErrFork) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.AddCheckpoint(t.Context(), 7, nil, a); err != nil {
			t.Errorf("%s: the same again: %v", name, err)
		}
	}
}

// sign makes a checkpoint of its own.
func sign(t testing.TB, skey string, size int, root byte) []byte {
	t.Helper()
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%s\n%d\n%s\ntime 2026-01-02T03:04:05.000000Z\n", signer.Name(), size, b64(bytes.Repeat([]byte{root}, 32)))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Of many that submit at once from the same size one is cosigned.
func TestWitnessChecksAndKeepsAtOnce(t *testing.T) {
	t.Parallel()
	skey, vkey, err := note.GenerateKey(rand.Reader, "part164/jx")
	if err != nil {
		t.Fatal(err)
	}
	f := newWitness(t, vkey)
	c := serve(t, f.w, f.key)
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if _, err := c.AddCheckpoint(t.Context(), 0, nil, sign(t, skey, i+1, 1)); err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 40 first checkpoints were cosigned", won.Load())
	}
}

// The protocol in bytes, as C2SP tlog-witness has it.
func TestWitnessSpeaksTheProtocol(t *testing.T) {
	t.Parallel()
	skey, vkey, err := note.GenerateKey(rand.Reader, "part164/jx")
	if err != nil {
		t.Fatal(err)
	}
	f := newWitness(t, vkey)
	post := func(body string) (int, string, string) {
		r := httptest.NewRequest(http.MethodPost, "/any/add-checkpoint", strings.NewReader(body))
		rec := httptest.NewRecorder()
		f.w.ServeHTTP(rec, r)
		return rec.Code, rec.Header().Get("Content-Type"), rec.Body.String()
	}
	cp := string(sign(t, skey, 4, 1))
	for name, tt := range map[string]struct {
		body string
		want int
	}{
		"no old line":        {"\n" + cp, 400},
		"no blank line":      {"old 0\n", 400},
		"leading zero":       {"old 00\n\n" + cp, 400},
		"negative":           {"old -1\n\n" + cp, 400},
		"old over new":       {"old 9\n\n" + cp, 400},
		"a proof of no hash": {"old 0\nabc\n\n" + cp, 400},
		"64 lines of proof":  {"old 0\n" + strings.Repeat(b64(make([]byte, 32))+"\n", 64) + "\n" + cp, 400},
		"too long":           {"old 0\n\n" + cp + strings.Repeat("x", 1<<17), 413},
		"unknown":            {"old 0\n\nother\n1\n" + b64(make([]byte, 32)) + "\n\n— other AAAAAAAA\n", 404},
		"unsigned":           {"old 0\n\n" + strings.SplitN(cp, "\n\n", 2)[0] + "\n\n— part164/jx AAAAAAAA\n", 403},
		"a proof from 0":     {"old 0\n" + b64(make([]byte, 32)) + "\n\n" + cp, 409},
	} {
		if code, _, body := post(tt.body); code != tt.want && !(name == "a proof from 0" && code == 422) {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	code, _, body := post("old 0\n\n" + cp)
	if code != 200 || !strings.HasPrefix(body, "— witness.test/w1 ") || !strings.HasSuffix(body, "\n") || strings.Count(body, "\n") != 1 {
		t.Fatalf("%d %q", code, body)
	}
	if code, typ, body := post("old 0\n\n" + cp); code != 409 || typ != "text/x.tlog.size" || body != "4\n" {
		t.Errorf("another old size: %d %s %q", code, typ, body)
	}
	if code, _, _ := post("old 4\n\n" + string(sign(t, skey, 4, 2))); code != 409 {
		t.Errorf("another root: %d", code)
	}
	if code, _, _ := post("old 4\n\n" + string(sign(t, skey, 9, 2))); code != 422 {
		t.Errorf("no proof: %d", code)
	}
	for path, want := range map[string]int{"/x": 404, "/any/add-checkpoint": 405} {
		rec := httptest.NewRecorder()
		f.w.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if rec.Code != want {
			t.Errorf("GET %s: %d", path, rec.Code)
		}
	}
}

// A witness that lies, is down, or is another one.
func TestClientBelievesNoWitnessThatLies(t *testing.T) {
	t.Parallel()
	skey, vkey, err := note.GenerateKey(rand.Reader, "part164/jx")
	if err != nil {
		t.Fatal(err)
	}
	f, other := newWitness(t, vkey), newWitness(t, vkey)
	cp := sign(t, skey, 4, 1)
	answer := func(code int, typ, body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", typ)
			rw.WriteHeader(code)
			_, _ = io.WriteString(rw, body)
		}
	}
	foreign, err := other.w.AddCheckpoint(t.Context(), 0, nil, cp)
	if err != nil {
		t.Fatal(err)
	}
	good, err := f.w.AddCheckpoint(t.Context(), 0, nil, sign(t, skey, 5, 1))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		h    http.Handler
		want error
	}{
		"another witness's signature":  {answer(200, "", string(foreign)), witness.ErrCosignature},
		"over another checkpoint":      {answer(200, "", string(good)), witness.ErrCosignature},
		"no signature":                 {answer(200, "", ""), witness.ErrCosignature},
		"junk":                         {answer(200, "", "<html>welcome</html>"), witness.ErrCosignature},
		"fork":                         {answer(422, "", ""), witness.ErrFork},
		"conflict without a size":      {answer(409, "text/plain", "?"), witness.ErrFork},
		"conflict at the size it says": {answer(409, "text/x.tlog.size", "0\n"), witness.ErrFork},
		"conflict with junk":           {answer(409, "text/x.tlog.size", "many"), nil},
		"redirect":                     {http.RedirectHandler("http://127.0.0.1:1/", http.StatusTemporaryRedirect), nil},
		"broken":                       {answer(500, "", ""), nil},
	} {
		_, err := serve(t, tt.h, f.key).AddCheckpoint(t.Context(), 0, nil, cp)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := serve(t, tt.h, f.key).Roster(t.Context()); err == nil && name != "no signature" {
			t.Errorf("%s: its roster passes", name)
		}
	}
	// A witness that gives the good answer is believed.
	w2 := newWitness(t, vkey)
	c := serve(t, w2.w, w2.key)
	if _, err := c.AddCheckpoint(t.Context(), 0, nil, cp); err != nil {
		t.Error(err)
	}
	if as, err := c.Roster(t.Context()); err != nil || len(as) != 1 || as[0].Size != 4 {
		t.Errorf("roster: %+v, %v", as, err)
	}
	down := serve(t, w2.w, w2.key)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := down.AddCheckpoint(ctx, 0, nil, cp); err == nil {
		t.Error("a witness that is down answers")
	}
	for _, prefix := range []string{"http://witness.example/w1", "", "ftp://127.0.0.1", "https://u:p@h/w", "https://h/w?x=1"} {
		if _, err := witness.NewClient(prefix, f.key, nil); err == nil {
			t.Errorf("NewClient(%q) passes", prefix)
		}
	}
	if _, err := witness.NewClient("https://h/w", f.key, &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("NewClient takes an unverified witness")
	}
	if _, err := witness.NewClient("https://h/w", vkey[:10], nil); err == nil {
		t.Error("NewClient takes a bad key")
	}
}

func TestWitnessFile(t *testing.T) {
	t.Parallel()
	skey, vkey, err := note.GenerateKey(rand.Reader, "part164/jx")
	if err != nil {
		t.Fatal(err)
	}
	f := newWitness(t, vkey)
	if _, err := f.w.AddCheckpoint(t.Context(), 0, nil, sign(t, skey, 4, 1)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	reopen := func(data []byte) (*witness.Witness, error) {
		if err := os.WriteFile(f.path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return witness.Open(f.path, witness.Config{Key: f.signer, Logs: []string{vkey}})
	}
	// Half a line was never answered for.
	w, err := reopen(append(bytes.Clone(whole), whole[:len(whole)/2]...))
	if err != nil || w.Roster()[0].Size != 4 {
		t.Fatalf("half a line: %v", err)
	}
	_ = w.Close()
	if data, _ := os.ReadFile(f.path); !bytes.Equal(data, whole) {
		t.Error("half a line stays")
	}
	edited := bytes.Replace(whole, []byte(`jx\n4\n`), []byte(`jx\n3\n`), 1)
	for name, data := range map[string][]byte{
		"edited": edited, "junk": []byte("junk\n"), "another field": []byte(`{"x":1}` + "\n"),
	} {
		if w, err := reopen(data); err == nil {
			_ = w.Close()
			t.Errorf("%s: opens", name)
		}
		if _, err := witness.Read(f.path, witness.Trust{Witnesses: []string{f.key}}); err == nil {
			t.Errorf("%s: is read", name)
		}
	}
	// While it is open nobody else changes it.
	if w, err = reopen(whole); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for name, change := range map[string]func() error{
		"appended": func() error { return os.WriteFile(f.path, append(bytes.Clone(whole), "x\n"...), 0o600) },
		"replaced": func() error {
			return errors.Join(os.WriteFile(f.path+"2", whole, 0o600), os.Rename(f.path+"2", f.path))
		},
		"removed": func() error { return os.Remove(f.path) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.AddCheckpoint(t.Context(), 4, nil, sign(t, skey, 4, 1)); err == nil {
			t.Errorf("%s: it goes on", name)
		}
		if err := os.WriteFile(f.path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, cfg := range []witness.Config{{}, {Key: f.signer}, {Key: "x", Logs: []string{vkey}}, {Key: f.signer, Logs: []string{"x"}}} {
		if _, err := witness.Open(f.path+"3", cfg); err == nil {
			t.Errorf("Open takes %d keys of journals", len(cfg.Logs))
		}
	}
}

// Whose signature counts is what the auditor says.
func TestReadTakesOnlyWhatIsTrusted(t *testing.T) {
	t.Parallel()
	j, dir := journal(t)
	grow(t, j, 0)
	f := newWitness(t, publicKey(t, dir))
	if _, err := witness.Submit(t.Context(), j, f.w); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := witness.Submit(t.Context(), j, witness.NewLines(&buf)); err != nil {
		t.Fatal(err)
	}
	lines := filepath.Join(t.TempDir(), "lines.jsonl")
	if err := os.WriteFile(lines, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stranger, err := witness.GenerateKey("witness.test/w2")
	if err != nil {
		t.Fatal(err)
	}
	key := publicKey(t, dir)
	for name, tt := range map[string]struct {
		path  string
		trust witness.Trust
		by    string
	}{
		"cosigned, by its witness":        {f.path, witness.Trust{Witnesses: []string{stranger, f.key}}, "witness.test/w1"},
		"cosigned, by another witness":    {f.path, witness.Trust{Witnesses: []string{stranger}, Logs: []string{key}}, ""},
		"cosigned, by its place":          {f.path, witness.Trust{Logs: []string{key}}, "witness.jsonl"},
		"lines, by their place":           {lines, witness.Trust{Logs: []string{key}}, "lines.jsonl"},
		"lines, of a witness":             {lines, witness.Trust{Witnesses: []string{f.key}}, ""},
		"lines, of another journal":       {lines, witness.Trust{Logs: []string{stranger}}, ""},
		"nobody is trusted":               {f.path, witness.Trust{}, ""},
		"a key that is none":              {f.path, witness.Trust{Witnesses: []string{"x"}}, ""},
		"a file that is not there at all": {f.path + "x", witness.Trust{Logs: []string{key}}, ""},
	} {
		as, err := witness.Read(tt.path, tt.trust)
		if tt.by == "" {
			if err == nil {
				t.Errorf("%s: %+v", name, as)
			}
			continue
		}
		if err != nil || len(as) != 1 || as[0].By != tt.by {
			t.Errorf("%s: %+v, %v", name, as, err)
		}
	}
}

// A scripted journal and witness, so that hours pass in no time.
type script struct {
	sync.Mutex
	dir  string
	size uint64
	seen uint64
	err  error
	asks int
}

func (s *script) Dir() string { return s.dir }

func (s *script) LastCheckpoint(context.Context) (audit.Checkpoint, error) {
	s.Lock()
	defer s.Unlock()
	return audit.Checkpoint{Origin: "part164/jx", Size: s.size}, nil
}

func (s *script) Consistency(_ context.Context, from, to uint64) ([][]byte, error) {
	if from > to {
		return nil, errors.New("backwards")
	}
	return nil, nil
}

func (s *script) AddCheckpoint(_ context.Context, old uint64, _ [][]byte, _ []byte) ([]byte, error) {
	s.Lock()
	defer s.Unlock()
	s.asks++
	switch {
	case s.err != nil:
		return nil, s.err
	case old != s.seen:
		return nil, &witness.SizeError{Size: s.seen}
	}
	s.seen = s.size
	return nil, nil
}

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &script{dir: t.TempDir(), size: 10, seen: 4}
		var last witness.Status
		reports := 0
		done := make(chan error)
		go func() {
			done <- witness.Run(ctx, s, s, witness.RunConfig{Report: func(st witness.Status) {
				s.Lock()
				defer s.Unlock()
				last = st
				reports++
			}})
		}()
		synctest.Wait()
		s.Lock()
		if last.Size != 10 || last.Err != nil || last.Lag != 0 || reports != 1 || s.asks != 2 {
			t.Fatalf("it starts with what the witness saw: %+v, %d asks", last, s.asks)
		}
		// Down for an hour: it asks less and less often, and says how far
		// behind the witness is.
		s.size, s.err = 100, errors.New("connection refused")
		at := last.Time
		s.asks = 0
		s.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		s.Lock()
		if s.asks < 12 || s.asks > 60 || last.Err == nil || last.Lag < 90 || !last.Time.Equal(at) {
			t.Errorf("down: %d asks, %+v", s.asks, last)
		}
		s.err = nil
		s.Unlock()
		time.Sleep(8 * time.Minute)
		synctest.Wait()
		s.Lock()
		if last.Err != nil || last.Size != 100 || last.Lag != 0 {
			t.Errorf("back: %+v", last)
		}
		// It says that it saw more than there is: the journal lost lines, or
		// it lies; once it stops lying all is well.
		s.seen = 1000
		s.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		s.Lock()
		if !errors.Is(last.Err, witness.ErrTruncated) {
			t.Errorf("truncated: %+v", last)
		}
		s.seen = 100
		s.Unlock()
		time.Sleep(8 * time.Minute)
		synctest.Wait()
		s.Lock()
		if last.Err != nil {
			t.Errorf("no longer: %+v", last)
		}
		s.Unlock()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := witness.Run(ctx, s, s, witness.RunConfig{Every: time.Millisecond}); err == nil {
			t.Error("Every of a millisecond passes")
		}
	})
}

// A journal in use, with a witness in its process.
func TestRunBesideAJournal(t *testing.T) {
	t.Parallel()
	j, dir := journal(t)
	f := newWitness(t, publicKey(t, dir))
	ctx, cancel := context.WithCancel(t.Context())
	saw := make(chan witness.Status, 100)
	done := make(chan error)
	go func() {
		done <- witness.Run(ctx, j, f.w, witness.RunConfig{Every: time.Second, Report: func(s witness.Status) { saw <- s }})
	}()
	first := <-saw
	cp := grow(t, j, first.Size)
	for s := range saw {
		if s.Err != nil {
			t.Fatal(s.Err)
		}
		if s.Size >= cp.Size {
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// The folder of a journal in use is witnessed, too.
	if _, err := witness.Submit(t.Context(), witness.Folder(dir), f.w); err != nil && !errors.Is(err, witness.ErrTruncated) {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if size, err := witness.Submit(t.Context(), witness.Folder(dir), f.w); err != nil || size <= cp.Size {
		t.Errorf("closed: %d, %v", size, err)
	}
}

// With a witness each cut of the tail shows, and the loss of the whole folder.
func TestWitnessSeesCutsAndDeletion(t *testing.T) {
	t.Parallel()
	j, dir := journal(t)
	other, otherDir := journal(t)
	f := newWitness(t, publicKey(t, dir), publicKey(t, otherDir))
	grow(t, j, 0)
	for _, x := range []*audit.Journal{j, other} {
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{dir, otherDir} {
		if _, err := witness.Submit(t.Context(), witness.Folder(d), f.w); err != nil {
			t.Fatal(err)
		}
	}
	as, err := witness.Read(f.path, witness.Trust{Witnesses: []string{f.key}})
	if err != nil || len(as) != 2 {
		t.Fatal(len(as), err)
	}
	s, err := audit.VerifyAll(t.Context(), []string{otherDir}, audit.VerifyConfig{Anchors: as})
	if err != nil || !s.Broken() || len(s.Absent) != 1 || s.Absent[0].Origin != as[0].Origin {
		t.Errorf("deleted: %+v, %v", s.Absent, err)
	}
	path := filepath.Join(dir, "00000001.jsonl")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	if whole[0] == 0 {
		t.Fatal("no line")
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1]
	for keep := 6; keep < len(lines)-1; keep++ {
		cut := make([]byte, len(data))
		copy(cut, bytes.Join(lines[:keep], nil))
		if err := os.WriteFile(path, cut, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Anchors: as})
		if err != nil || r.Completeness.Length != audit.Truncated || r.Completeness.Missing != as[0].Size-uint64(keep) {
			t.Errorf("cut after %d of %d lines: %v, %v", keep, len(lines), r.Completeness, err)
		}
		if _, err := witness.Submit(t.Context(), witness.Folder(dir), f.w); !errors.Is(err, witness.ErrTruncated) {
			t.Errorf("cut after %d lines submits: %v", keep, err)
		}
	}
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
