// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/internal/fault"
	"github.com/part164/part164/storage"
)

// Blobs is a [storage.Blobs] in memory, which can be told to fail, and whose
// bytes a test can change behind the back of storage.Files. The zero Blobs is
// empty and works.
type Blobs struct {
	faults fault.Faults
	mu     sync.Mutex
	blobs  map[string]blob
	got    int64
}

type blob struct {
	b      []byte
	stored time.Time
}

var _ storage.Blobs = (*Blobs)(nil)

// Fail makes every later call, and every read under way, fail with err, until
// Fail(nil).
func (s *Blobs) Fail(err error) { s.FailAfter(0, err) }

// FailAfter is Fail after n more calls and reads.
func (s *Blobs) FailAfter(n int, err error) { s.faults.FailAfter(n, err) }

// Delay makes every later call and read take at least d, or until its context
// is done, which is its error then. Delay(0) ends it.
func (s *Blobs) Delay(d time.Duration) { s.faults.Delay(d) }

// Names returns the names of all blobs, sorted.
func (s *Blobs) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.blobs))
}

// Bytes returns a blob as it is stored; nil where there is none.
func (s *Blobs) Bytes(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.blobs[name].b)
}

// Replace puts other bytes in the place of a blob, or makes one; nil removes it.
func (s *Blobs) Replace(name string, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b == nil {
		delete(s.blobs, name)
		return
	}
	if s.blobs == nil {
		s.blobs = map[string]blob{}
	}
	s.blobs[name] = blob{bytes.Clone(b), time.Now()}
}

// Read returns how many bytes were read from it since the last call.
func (s *Blobs) Read() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.got
	s.got = 0
	return n
}

func (s *Blobs) call(ctx context.Context) error {
	if err := s.faults.Call(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

// Put implements storage.Blobs.
func (s *Blobs) Put(ctx context.Context, name string, r io.Reader) error {
	if err := s.call(ctx); err != nil {
		_, _ = io.CopyN(io.Discard, r, 100)
		return err
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.blobs[name]; ok {
		return &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
	}
	if s.blobs == nil {
		s.blobs = map[string]blob{}
	}
	s.blobs[name] = blob{b, time.Now()}
	return nil
}

// Get implements storage.Blobs.
func (s *Blobs) Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if err := s.call(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[name]
	if !ok {
		return nil, &fs.PathError{Op: "get", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(&blobReader{s, ctx, bytes.NewReader(b.b[min(offset, int64(len(b.b))):])}), nil
}

type blobReader struct {
	s   *Blobs
	ctx context.Context
	r   io.Reader
}

func (r *blobReader) Read(p []byte) (int, error) {
	if err := r.s.call(r.ctx); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.got += int64(n)
	return n, err
}

// Delete implements storage.Blobs.
func (s *Blobs) Delete(ctx context.Context, name string) error {
	if err := s.call(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, name)
	return nil
}

// List implements storage.Blobs.
func (s *Blobs) List(ctx context.Context, prefix string, f func(name string, stored time.Time) error) error {
	if err := s.call(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	all := maps.Clone(s.blobs)
	s.mu.Unlock()
	for name, b := range all {
		if strings.HasPrefix(name, prefix) {
			if err := f(name, b.stored); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestBlobs holds an implementation of [storage.Blobs] to the contract. open
// returns an empty store.
func TestBlobs(t *testing.T, open func(t *testing.T) storage.Blobs) {
	t.Helper()
	read := func(t *testing.T, s storage.Blobs, name string, offset int64) string {
		t.Helper()
		r, err := s.Get(t.Context(), name, offset)
		if err != nil {
			t.Fatalf("Get(%s, %d) = %v", name, offset, err)
		}
		b, err := io.ReadAll(r)
		if cerr := r.Close(); err != nil || cerr != nil {
			t.Fatalf("read %s from %d = %v, %v", name, offset, err, cerr)
		}
		return string(b)
	}
	put := func(t *testing.T, s storage.Blobs, name, text string) {
		t.Helper()
		if err := s.Put(t.Context(), name, strings.NewReader(text)); err != nil {
			t.Fatalf("Put(%s) = %v", name, err)
		}
	}
	names := func(t *testing.T, s storage.Blobs, prefix string) []string {
		t.Helper()
		var out []string
		before := time.Now()
		err := s.List(t.Context(), prefix, func(name string, stored time.Time) error {
			if age := before.Sub(stored); age > time.Hour || age < -time.Hour {
				t.Errorf("%s was stored at %v, now it is %v", name, stored, before)
			}
			out = append(out, name)
			return nil
		})
		if err != nil {
			t.Fatalf("List(%s) = %v", prefix, err)
		}
		slices.Sort(out)
		return out
	}
	t.Run("what is put is got, from any place", func(t *testing.T) {
		s := open(t)
		put(t, s, "db-1/blob-1", "0123456789")
		put(t, s, "db-1/blob-2", "")
		put(t, s, "db-2/blob-1", "other")
		for offset, want := range map[int64]string{0: "0123456789", 1: "123456789", 9: "9", 10: ""} {
			if got := read(t, s, "db-1/blob-1", offset); got != want {
				t.Errorf("from %d: %q, want %q", offset, got, want)
			}
		}
		if got := read(t, s, "db-1/blob-2", 0); got != "" {
			t.Errorf("an empty blob = %q", got)
		}
		if got := read(t, s, "db-2/blob-1", 0); got != "other" {
			t.Errorf("the same name elsewhere = %q", got)
		}
	})
	t.Run("large", func(t *testing.T) {
		s := open(t)
		text := strings.Repeat("0123456789abcdef", 20<<20/16)
		put(t, s, "db-1/large", text)
		if got := read(t, s, "db-1/large", 0); got != text {
			t.Errorf("%d bytes came back of %d", len(got), len(text))
		}
		if got := read(t, s, "db-1/large", int64(len(text)-5)); got != "bcdef" {
			t.Errorf("the end = %q", got)
		}
		r, err := s.Get(t.Context(), "db-1/large", 7)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 20)
		if _, err := io.ReadFull(r, b); err != nil || string(b) != text[7:27] {
			t.Errorf("a part = %q, %v", b, err)
		}
		if err := r.Close(); err != nil { // before the end
			t.Error(err)
		}
	})
	t.Run("what is not there", func(t *testing.T) {
		s := open(t)
		if _, err := s.Get(t.Context(), "db-1/none", 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get = %v, want fs.ErrNotExist", err)
		}
		if err := s.Delete(t.Context(), "db-1/none"); err != nil {
			t.Errorf("Delete = %v", err)
		}
		if got := names(t, s, "db-1/"); len(got) != 0 {
			t.Errorf("List = %q", got)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		s := open(t)
		put(t, s, "db-1/gone", "x")
		put(t, s, "db-1/kept", "x")
		if err := s.Delete(t.Context(), "db-1/gone"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), "db-1/gone", 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get after Delete = %v, want fs.ErrNotExist", err)
		}
		if got := names(t, s, "db-1/"); !slices.Equal(got, []string{"db-1/kept"}) {
			t.Errorf("List after Delete = %q", got)
		}
	})
	t.Run("a reader that fails leaves nothing", func(t *testing.T) {
		for _, n := range []int{0, 100, 17 << 20} {
			s := open(t)
			broken := errors.New("broken")
			err := s.Put(t.Context(), "db-1/part", io.MultiReader(bytes.NewReader(make([]byte, n)), brokenReader{broken}))
			if !errors.Is(err, broken) {
				t.Errorf("Put of a reader that breaks after %d bytes = %v", n, err)
			}
			if _, err := s.Get(t.Context(), "db-1/part", 0); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Get after that = %v, want fs.ErrNotExist", err)
			}
		}
	})
	t.Run("a context that is done", func(t *testing.T) {
		s := open(t)
		put(t, s, "db-1/there", "x")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Put(ctx, "db-1/late", strings.NewReader("x")); err == nil {
			t.Error("Put works")
		}
		if r, err := s.Get(ctx, "db-1/there", 0); err == nil {
			if _, err := io.ReadAll(r); err == nil {
				t.Error("Get works")
			}
			_ = r.Close()
		}
		if got := names(t, s, "db-1/"); !slices.Equal(got, []string{"db-1/there"}) {
			t.Errorf("List = %q", got)
		}
	})
	t.Run("a list is of one prefix, and ends where it is told", func(t *testing.T) {
		s := open(t)
		var want []string
		for i := range 30 {
			name := fmt.Sprintf("db-1/blob-%02d", i)
			put(t, s, name, "x")
			want = append(want, name)
		}
		put(t, s, "db-10/blob-00", "x")
		put(t, s, "db-2/blob-00", "x")
		if got := names(t, s, "db-1/"); !slices.Equal(got, want) {
			t.Errorf("List = %q", got)
		}
		stop := errors.New("stop")
		n := 0
		if err := s.List(t.Context(), "db-1/", func(string, time.Time) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
			t.Errorf("List = %v after %d names", err, n)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		s := open(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				name := fmt.Sprintf("db-1/blob-%d", i)
				text := strings.Repeat(name, 1000)
				if err := s.Put(t.Context(), name, strings.NewReader(text)); err != nil {
					t.Error(err)
					return
				}
				r, err := s.Get(t.Context(), name, 0)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(r)
				if err := errors.Join(err, r.Close()); err != nil || string(b) != text {
					t.Errorf("%s = %d bytes, %v", name, len(b), err)
				}
			})
		}
		wg.Wait()
		if got := names(t, s, "db-1/"); len(got) != 8 {
			t.Errorf("List = %q", got)
		}
	})
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }
