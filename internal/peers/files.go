// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	streaming "github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/part164/part164/storage"
)

// fileFigures report a sealed file against Tink's streaming AEAD over a file
// of the same size in the same folder: access check, record and all.
func fileFigures() []figure {
	return []figure{
		{"file of 16 MiB read / Tink streaming AEAD", goal{}, fileStream(true)},
		{"file of 16 MiB stored / Tink streaming AEAD", goal{}, fileStream(false)},
	}
}

func fileStream(read bool) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (_ value, err error) {
		b, err := newBench(ctx, dir, &Chart{}, &plainChart{})
		if err != nil {
			return value{}, err
		}
		defer func() { err = errors.Join(err, b.close()) }()
		files, err := storage.OpenFiles(b.db, storage.FilesConfig{Folder: filepath.Join(dir, "files")})
		if err != nil {
			return value{}, err
		}
		patient := Chart{MRN: storage.Seal(mrn(1))}
		if err := b.db.WithContext(b.ctx).Create(&patient).Error; err != nil {
			return value{}, err
		}
		content := make([]byte, 16<<20)
		rand.Read(content)
		secret := make([]byte, 32)
		rand.Read(secret)
		tink, err := streaming.NewAESGCMHKDF(secret, "SHA256", 32, 64<<10, 0)
		if err != nil {
			return value{}, err
		}
		data, path := []byte("a file"), filepath.Join(dir, "tink")
		put := func() (string, error) { return files.Put(b.ctx, patient.ID, "photo", bytes.NewReader(content)) }
		putTink := func() (err error) {
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Sync(), f.Close()) }() // as Put does
			w, err := tink.NewEncryptingWriter(f, data)
			if err != nil {
				return err
			}
			_, err = w.Write(content)
			return errors.Join(err, w.Close())
		}
		id, err := put()
		if err != nil {
			return value{}, err
		}
		if err := putTink(); err != nil {
			return value{}, err
		}
		if !read {
			return ratio(ctx, 15,
				timed(1, func(context.Context) error { _, err := put(); return err }),
				timed(1, func(context.Context) error { return errors.Join(putTink(), os.Remove(path)) }))
		}
		all := func(r io.Reader, err error) error {
			if err != nil {
				return err
			}
			n, err := io.Copy(io.Discard, r)
			if err == nil && n != int64(len(content)) {
				err = fmt.Errorf("read %d bytes of %d", n, len(content))
			}
			return err
		}
		return ratio(ctx, 31,
			timed(1, func(context.Context) error {
				r, err := files.Open(b.ctx, id)
				if err != nil {
					return err
				}
				return errors.Join(all(r, nil), r.Close())
			}),
			timed(1, func(context.Context) error {
				f, err := os.Open(path)
				if err != nil {
					return err
				}
				defer f.Close()
				return all(tink.NewDecryptingReader(f, data))
			}))
	}
}
