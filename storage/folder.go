// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// A folder keeps blobs as files, in sub-folders by the last two characters of
// their names. It writes beside the place, and renames: a name is there whole
// or not at all.
type folder struct{ root *os.Root }

// part ends the name of a file that is being written.
const part = ".part"

func openFolder(name string) (Blobs, error) {
	if err := os.MkdirAll(name, 0o700); err != nil {
		return nil, fmt.Errorf("storage: open files: %w", err)
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("storage: open files: %w", err)
	}
	return folder{root}, nil
}

// place returns where a blob lies, and its folder.
func (folder) place(name string) (file, dir string, err error) {
	head, tail, ok := strings.Cut(name, "/")
	for _, s := range []string{head, tail} {
		bare := strings.TrimSuffix(s, part)
		if !ok || len(bare) < 2 || len(s) > 100 || strings.Trim(bare, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return "", "", errors.New("storage: files: a name is not two of lower-case letters, digits and -, with a / between")
		}
	}
	bare := strings.TrimSuffix(tail, part)
	dir = path.Join(head, bare[len(bare)-2:])
	return path.Join(dir, tail), dir, nil
}

// Put implements Blobs.
func (f folder) Put(ctx context.Context, name string, r io.Reader) error {
	file, dir, err := f.place(name)
	if err != nil {
		return err
	}
	if err := f.root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if _, err := f.root.Lstat(file); err == nil {
		return &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
	}
	w, err := f.root.OpenFile(file+part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, ctxReader{ctx, r})
	if err == nil {
		err = w.Sync()
	}
	err = errors.Join(err, w.Close())
	if err == nil {
		err = f.root.Rename(file+part, file)
	}
	if err != nil {
		return errors.Join(err, f.root.Remove(file+part))
	}
	return errors.Join(f.sync(dir), f.sync(path.Dir(dir)), f.sync("."))
}

// sync makes the names in a folder durable.
func (f folder) sync(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// Get implements Blobs.
func (f folder) Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	file, _, err := f.place(name)
	if err != nil {
		return nil, err
	}
	r, err := f.root.Open(file)
	if err != nil {
		return nil, err
	}
	if _, err := r.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{ctxReader{ctx, r}, r}, nil
}

// Delete implements Blobs.
func (f folder) Delete(_ context.Context, name string) error {
	file, dir, err := f.place(name)
	if err != nil {
		return err
	}
	if err := f.root.Remove(file); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return f.sync(dir)
}

// List implements Blobs.
func (f folder) List(ctx context.Context, prefix string, found func(name string, stored time.Time) error) error {
	head, _, ok := strings.Cut(prefix, "/")
	if !ok {
		return errors.New("storage: files: list a part before a /")
	}
	err := fs.WalkDir(f.root.FS(), head, func(file string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
			return nil
		}
		name := head + "/" + d.Name()
		if err != nil || !strings.HasPrefix(name, prefix) {
			return err
		}
		return found(name, info.ModTime())
	})
	if errors.Is(err, fs.ErrNotExist) { // nothing stored yet
		return nil
	}
	return err
}
