// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// A memDisk is a disk that forgets what was not synced, as a power cut does,
// and that fails where it is told to.
type memDisk struct {
	mu      sync.Mutex
	names   map[string]*memFile
	durable map[string]*memFile // names that a folder sync has made lasting
	free    int64
	dead    bool

	// fault, where set, is asked before each operation; it returns how many
	// bytes of a write are done all the same, and the error.
	fault func(op string, name string) (n int, err error)
}

type memFile struct {
	disk    *memDisk
	name    string
	data    []byte
	durable []byte
	dirty   map[int]bool // sectors of data that may not be in durable
	failed  bool         // a sync failed
	again   bool         // and another was tried
}

func newMemDisk() *memDisk {
	return &memDisk{names: make(map[string]*memFile), durable: make(map[string]*memFile), free: 1 << 40}
}

var errDead = errors.New("the power is off")

func (d *memDisk) ask(op, name string) (int, error) {
	if d.dead {
		return 0, errDead
	}
	if d.fault != nil {
		return d.fault(op, name)
	}
	return 0, nil
}

func (d *memDisk) setFault(f func(op, name string) (int, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

func (d *memDisk) setFree(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = n
}

func (d *memDisk) Create(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.ask("create", name); err != nil {
		return nil, err
	}
	f := &memFile{disk: d, name: name, dirty: make(map[int]bool)}
	d.names[name] = f
	return f, nil
}

func (d *memDisk) Open(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return f, nil
}

func (d *memDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.ask("rename", from); err != nil {
		return err
	}
	f, ok := d.names[from]
	if !ok {
		return fs.ErrNotExist
	}
	delete(d.names, from)
	d.names[to], f.name = f, to
	return nil
}

func (d *memDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.names[name]; !ok {
		return fs.ErrNotExist
	}
	delete(d.names, name)
	return nil
}

func (d *memDisk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.names)), nil
}

func (d *memDisk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.ask("syncdir", ""); err != nil {
		return err
	}
	d.durable = maps.Clone(d.names)
	return nil
}

func (d *memDisk) Free() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, nil
}

func (d *memDisk) Same(name string, f file) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names[name] != f {
		return errors.New("it was removed")
	}
	return nil
}

func (d *memDisk) ReadOnly(string) error { return nil }

// crash returns the disk as it comes up after a power cut now: what was
// synced, and of the rest each sector with chance keep. d.mu is held.
func (d *memDisk) crash(keep float64) *memDisk {
	out := newMemDisk()
	for name, f := range d.durable {
		data := slices.Clone(f.durable)
		for s := range f.dirty {
			if rand.Float64() < keep {
				end := min((s+1)*sector, len(f.data))
				if end > len(data) {
					data = append(data, make([]byte, end-len(data))...)
				}
				if s*sector < end {
					copy(data[s*sector:end], f.data[s*sector:end])
				}
			}
		}
		out.names[name] = &memFile{disk: out, name: name, data: data, durable: slices.Clone(data), dirty: make(map[int]bool)}
	}
	out.durable = maps.Clone(out.names)
	return out
}

// dump writes the segments beside a copy of the public key of dir, for Verify.
func (d *memDisk) dump(t testing.TB, dir string) string {
	t.Helper()
	out := t.TempDir()
	key, err := os.ReadFile(filepath.Join(dir, verifierFile))
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	files := map[string][]byte{verifierFile: key}
	for name, f := range d.names {
		files[name] = f.data
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(out, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n, err := f.disk.ask("write", f.name)
	if err != nil {
		p = p[:min(n, len(p))]
	}
	if end := int(off) + len(p); end > len(f.data) {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	copy(f.data[off:], p)
	for s := int(off) / sector; s*sector < int(off)+len(p); s++ {
		f.dirty[s] = true
	}
	return len(p), err
}

func (f *memFile) Datasync() error {
	f.disk.mu.Lock()
	fault := f.disk.fault
	f.disk.mu.Unlock()
	if fault != nil { // may block: the disk's lock is not held
		if _, err := fault("blocksync", f.name); err != nil {
			return err
		}
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.again = f.again || f.failed
	if _, err := f.disk.ask("sync", f.name); err != nil {
		f.failed = true
		return err
	}
	if len(f.durable) < len(f.data) {
		f.durable = append(f.durable, make([]byte, len(f.data)-len(f.durable))...)
	}
	f.durable = f.durable[:len(f.data)]
	for s := range f.dirty {
		if s*sector < len(f.data) {
			end := min((s+1)*sector, len(f.data))
			copy(f.durable[s*sector:end], f.data[s*sector:end])
		}
	}
	clear(f.dirty)
	return nil
}

func (f *memFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.dead {
		return errDead
	}
	f.data = f.data[:min(int(size), len(f.data))]
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *memFile) Close() error { return nil }
