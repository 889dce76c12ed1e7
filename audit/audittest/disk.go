// SPDX-License-Identifier: Apache-2.0

package audittest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/part164/part164/audit"
)

// sector is the unit in which a disk writes.
const sector = 512

// A Disk holds a journal's segments in a folder, as [audit.Config].Disk. What
// was not synced is lost with the process, as it is on a real disk with the
// power: the folder holds what was. It also fails where it is told to. It is
// safe for concurrent use.
type Disk struct {
	dir  string
	leak float64

	mu      sync.Mutex
	names   map[string]*diskFile
	durable map[string]*diskFile // names that a sync of the folder has made lasting
	free    int64
	dead    bool
	fault   func(op Op, name string) (n int, err error)
}

var _ audit.Disk = (*Disk)(nil)

// An Op is what a [Disk] is asked to do.
type Op string

// The operations that fail where Fail says so.
const (
	DiskWrite    Op = "write"
	DiskSync     Op = "sync"     // of a file's data
	DiskCreate   Op = "create"   // of a file
	DiskRename   Op = "rename"   // of a file
	DiskSyncDir  Op = "syncdir"  // of the folder, which makes names lasting
	DiskTruncate Op = "truncate" // of a file
)

// ErrPowerCut is what a Disk answers after Cut.
var ErrPowerCut = errors.New("audittest: the power is off")

// NewDisk returns the disk of a journal in dir, with what is there. Of what is
// written, each sector is in the folder before it is synced with a chance of
// leak, from 0 to 1.
func NewDisk(dir string, leak float64) (*Disk, error) {
	d := &Disk{dir: dir, leak: leak, names: make(map[string]*diskFile), free: 1 << 40}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		d.names[e.Name()] = &diskFile{disk: d, name: e.Name(), lasting: e.Name(), data: data, durable: slices.Clone(data), dirty: make(map[int]bool)}
	}
	d.durable = maps.Clone(d.names)
	return d, nil
}

// Fail calls fault before each operation, which fails with the error that
// fault returns; of a failed write n bytes are done all the same. fault may
// block. Fail(nil) ends it.
func (d *Disk) Fail(fault func(op Op, name string) (n int, err error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fault
}

// SetFree says how many bytes can still be written; at first it is plenty.
func (d *Disk) SetFree(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = n
}

// Unsynced returns how many sectors of the file would be lost with the power.
func (d *Disk) Unsynced(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.names[name]; f != nil {
		return len(f.dirty)
	}
	return 0
}

// SyncedAfterFailure returns the files that were synced again after a sync of
// theirs had failed: a second sync can succeed without having written
// anything.
func (d *Disk) SyncedAfterFailure() (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, f := range d.names {
		if f.again {
			names = append(names, name)
		}
	}
	return names
}

// Cut cuts the power. The folder then holds what was synced, and of the rest
// each sector with a chance of keep; renamed and new files go by the names
// that a sync of the folder made lasting. Every later operation fails with
// [ErrPowerCut].
func (d *Disk) Cut(keep float64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return ErrPowerCut
	}
	d.dead = true
	for _, f := range d.durable {
		for s := range f.dirty {
			if rand.Float64() < keep {
				if err := f.through(s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ask is called with d.mu held, and gives it up while a fault is asked.
func (d *Disk) ask(op Op, name string) (int, error) {
	if d.dead {
		return 0, ErrPowerCut
	}
	fault := d.fault
	if fault == nil {
		return 0, nil
	}
	d.mu.Unlock()
	n, err := fault(op, name)
	d.mu.Lock()
	if err == nil && d.dead {
		err = ErrPowerCut
	}
	return n, err
}

// Create implements [audit.Disk].
func (d *Disk) Create(name string) (audit.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.ask(DiskCreate, name); err != nil {
		return nil, err
	}
	f := &diskFile{disk: d, name: name, dirty: make(map[int]bool)}
	d.names[name] = f
	return f, nil
}

// Open implements [audit.Disk].
func (d *Disk) Open(name string) (audit.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return f, nil
}

// Rename implements [audit.Disk].
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.ask(DiskRename, from); err != nil {
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

// Remove implements [audit.Disk].
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.names[name]; !ok {
		return fs.ErrNotExist
	}
	delete(d.names, name)
	return nil
}

// List implements [audit.Disk].
func (d *Disk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.names)), nil
}

// Sync implements [audit.Disk]: it makes names lasting.
func (d *Disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.ask(DiskSyncDir, ""); err != nil {
		return err
	}
	for name, f := range d.names {
		if err := f.settle(name); err != nil {
			return err
		}
	}
	for name, f := range d.durable {
		if d.names[name] == nil && f.lasting == name {
			if err := os.Remove(filepath.Join(d.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			f.lasting = ""
		}
	}
	d.durable = maps.Clone(d.names)
	return nil
}

// Free implements [audit.Disk].
func (d *Disk) Free() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, nil
}

// Same implements [audit.Disk].
func (d *Disk) Same(name string, f audit.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if have, ok := d.names[name]; !ok || audit.File(have) != f {
		return errors.New("it was removed")
	}
	return nil
}

// ReadOnly implements [audit.Disk].
func (d *Disk) ReadOnly(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.names[name]; f != nil && f.lasting == name {
		return os.Chmod(filepath.Join(d.dir, name), 0o400)
	}
	return nil
}

// A diskFile is an [audit.File]. Its disk's mu guards it.
type diskFile struct {
	disk    *Disk
	name    string
	lasting string // its name in the folder; empty where it has none yet
	data    []byte
	durable []byte       // what was synced
	dirty   map[int]bool // sectors of data that may not be in durable
	failed  bool         // a sync failed
	again   bool         // and another was tried
}

// settle makes the file's name lasting.
func (f *diskFile) settle(name string) error {
	path := filepath.Join(f.disk.dir, name)
	switch {
	case f.lasting == name:
		return nil
	case f.lasting != "":
		if err := os.Rename(filepath.Join(f.disk.dir, f.lasting), path); err != nil {
			return err
		}
	default:
		if err := os.WriteFile(path+".settling", f.durable, 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".settling", path); err != nil {
			return err
		}
	}
	f.lasting = name
	return nil
}

// through writes sector s to what is lasting.
func (f *diskFile) through(s int) error {
	from, to := s*sector, min((s+1)*sector, len(f.data))
	if from >= to {
		return nil
	}
	if to > len(f.durable) {
		f.durable = append(f.durable, make([]byte, to-len(f.durable))...)
	}
	copy(f.durable[from:to], f.data[from:to])
	if f.lasting == "" {
		return nil
	}
	out, err := os.OpenFile(filepath.Join(f.disk.dir, f.lasting), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrPermission) {
		return nil // sealed
	}
	if err != nil {
		return err
	}
	_, err = out.WriteAt(f.data[from:to], int64(from))
	return errors.Join(err, out.Close())
}

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
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

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n, err := f.disk.ask(DiskWrite, f.name)
	if err != nil {
		p = p[:min(n, len(p))]
	}
	if end := int(off) + len(p); end > len(f.data) {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	copy(f.data[off:], p)
	for s := int(off) / sector; s*sector < int(off)+len(p); s++ {
		f.dirty[s] = true
		if f.disk.leak > 0 && rand.Float64() < f.disk.leak {
			err = errors.Join(err, f.through(s))
		}
	}
	return len(p), err
}

// Datasync implements [audit.File]. The file is written through as a whole
// run of sectors, in any order, so that a kill in between tears it.
func (f *diskFile) Datasync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.again = f.again || f.failed
	if _, err := f.disk.ask(DiskSync, f.name); err != nil {
		f.failed = true
		return err
	}
	if len(f.durable) > len(f.data) {
		f.durable = f.durable[:len(f.data)]
		if f.lasting != "" {
			if err := os.Truncate(filepath.Join(f.disk.dir, f.lasting), int64(len(f.data))); err != nil {
				return err
			}
		}
	}
	for s := range f.dirty {
		if err := f.through(s); err != nil {
			return fmt.Errorf("write through: %w", err)
		}
		delete(f.dirty, s)
	}
	return nil
}

func (f *diskFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if _, err := f.disk.ask(DiskTruncate, f.name); err != nil {
		return err
	}
	f.data = f.data[:min(int(size), len(f.data))]
	return nil
}

func (f *diskFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *diskFile) Close() error { return nil }
