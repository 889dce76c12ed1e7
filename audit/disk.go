// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A Disk is what a journal asks of the folder that holds its segments: see
// Config.Disk. Package audittest has one that fails as it is told to.
type Disk interface {
	Create(name string) (File, error) // empty, also where there was one
	Open(name string) (File, error)   // to read and write
	Rename(from, to string) error
	Remove(name string) error
	List() ([]string, error)
	Sync() error                    // makes names durable
	Free() (int64, error)           // bytes that can still be written
	Same(name string, f File) error // nil while name leads to f
	ReadOnly(name string) error     // a sealed segment is not written again
}

// A File is a segment on a [Disk], or the next one in the making.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Datasync() error
	Truncate(size int64) error
	Size() (int64, error)
}

// folder is the disk of the operating system.
type folder string

func (d folder) Create(name string) (File, error) {
	f, err := createFile(string(d), name, 0o600)
	return osFile{f}, err
}

func (d folder) Open(name string) (File, error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR|readFlags, 0)
	return osFile{f}, err
}

func (d folder) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }
func (d folder) Remove(name string) error     { return os.Remove(d.path(name)) }
func (d folder) Sync() error                  { return syncFolder(string(d)) }
func (d folder) Free() (int64, error)         { return freeBytes(string(d)) }
func (d folder) ReadOnly(name string) error   { return makeReadOnly(d.path(name)) }
func (d folder) path(name string) string      { return filepath.Join(string(d), name) }

func (d folder) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Same catches a segment that was removed, moved or replaced while it is
// written: its bytes would go where nobody will look.
func (d folder) Same(name string, f File) error {
	have, err := f.(osFile).Stat()
	if err != nil {
		return err
	}
	want, err := os.Lstat(d.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("it was removed")
	case err != nil:
		return err
	case !os.SameFile(have, want):
		return errors.New("another file was put in its place")
	}
	return nil
}

type osFile struct{ *os.File }

func (f osFile) Datasync() error { return datasync(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// createFile makes an empty file, also where there was one, and never writes
// through a link that somebody put in its place: where root works on the folder
// of another user, a link would lead to any file of the machine. The file is
// then that user's, who has to open it again.
func createFile(dir, name string, perm fs.FileMode) (*os.File, error) {
	path := filepath.Join(dir, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	if err := giveToOwner(dir, f); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// writeFile makes a small file durable: it is there whole, or not at all.
func writeFile(dir, name string, data []byte, perm fs.FileMode) (err error) {
	tmp := filepath.Join(dir, name+".tmp")
	f, err := createFile(dir, name+".tmp", perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncFolder(dir)
}
