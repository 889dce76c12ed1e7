// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// A FileKEK is a KEK in a file: a cleartext Tink keyset of AES256-GCM keys, in
// Tink's JSON, which Tink's own tools can rotate. It is meant for development.
// In production the file must lie elsewhere than the data: HHS's guidance on
// unsecured PHI (as updated in 74 FR 42740, 2009) says that keys should be kept
// on a separate device or at a separate location; storage wants that place
// named in a recorded deviation.
//
// It is safe for concurrent use and runs in a FIPS-only process.
type FileKEK struct {
	path   string
	loaded atomic.Pointer[keysetAEAD]
}

var _ KEK = (*FileKEK)(nil)

// maxKeyFile is far more than a keyset of a hundred keys takes.
const maxKeyFile = 1 << 20

// LocalKEK names the key file at path and reads it where it exists. A file that
// is missing is no error here: using the KEK then gives [ErrNoKeyFile] until
// the file is there. A file that is malformed, that is no regular file, or
// that somebody else than its owner may read, is an error.
func LocalKEK(path string) (*FileKEK, error) {
	if path == "" {
		return nil, errors.New("crypto: name key file: the path is empty")
	}
	k := &FileKEK{path: path}
	if _, err := k.keys(); err != nil && !errors.Is(err, ErrNoKeyFile) {
		return nil, err
	}
	return k, nil
}

// Path returns the path of the file, as given.
func (k *FileKEK) Path() string { return k.path }

// Exists reports whether there is anything at the path.
func (k *FileKEK) Exists() bool {
	_, err := os.Stat(k.path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Generate makes the file with one new key, readable by its owner only, and its
// folder where that is missing, and returns when both are on the disk. It never
// replaces a file: where there is one already, the error wraps fs.ErrExist, and
// the KEK uses that one.
func (k *FileKEK) Generate() error {
	h, err := newAESKeyset()
	if err != nil {
		return fmt.Errorf("crypto: make key file %s: %w", k.path, err)
	}
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&buf)); err != nil {
		return fmt.Errorf("crypto: make key file %s: cannot encode the keyset", k.path)
	}
	defer clear(buf.Bytes())
	keys, err := newKeysetAEAD(h)
	if err != nil {
		return fmt.Errorf("crypto: make key file %s: %w", k.path, err)
	}
	if err := writeNew(k.path, buf.Bytes()); err != nil {
		return fmt.Errorf("crypto: make key file: %w", err)
	}
	k.loaded.Store(keys)
	return nil
}

// Ensure makes the file where it is missing and may be made: in development,
// and never where inUse says that something was wrapped with it already, since
// a new key would open nothing and hide that the old one is missed. Then the
// error wraps [ErrNoKeyFile].
func (k *FileKEK) Ensure(inUse, development bool) error {
	switch {
	case k.Exists():
		return nil
	case inUse:
		return fmt.Errorf("crypto: key file %s: what it wrapped is there, and the file is not: put it back: %w", k.path, ErrNoKeyFile)
	case !development:
		return fmt.Errorf("crypto: key file %s: %w", k.path, ErrNoKeyFile)
	}
	if err := k.Generate(); err != nil && !errors.Is(err, fs.ErrExist) { // another process may have been first
		return err
	}
	return nil
}

// writeNew writes a file that must not exist yet, and syncs it and its folder.
func writeNew(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // cannot sync a folder
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// keys returns the keys of the file, read at the first use that finds it.
func (k *FileKEK) keys() (*keysetAEAD, error) {
	if k == nil {
		return nil, ErrNoKeyFile
	}
	if keys := k.loaded.Load(); keys != nil {
		return keys, nil
	}
	data, err := readKeyFile(k.path)
	if err != nil {
		return nil, fmt.Errorf("crypto: read key file: %w", err)
	}
	defer clear(data)
	// What a parser says about a key file may quote it: none of it is passed on.
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		return nil, fmt.Errorf("crypto: read key file %s: not a Tink keyset in JSON: restore it from its copy; one that never wrapped a key may be removed", k.path)
	}
	keys, err := newKeysetAEAD(h)
	if err != nil {
		return nil, fmt.Errorf("crypto: read key file %s: %w", k.path, err)
	}
	k.loaded.Store(keys)
	return keys, nil
}

func readKeyFile(path string) ([]byte, error) {
	// Stat first: opening a named pipe would wait for its writer.
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNoKeyFile)
	}
	if err != nil {
		return nil, err
	}
	if err := checkKeyFile(path, info); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if err := checkKeyFile(path, info); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

func checkKeyFile(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file: name the key file itself", path)
	}
	if info.Size() > maxKeyFile {
		return fmt.Errorf("%s is larger than any key file: name the key file itself", path)
	}
	// Windows keeps access in ACLs, which the mode does not show.
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%s has mode %#o: others than its owner may use it: chmod 600 it, and replace the key if they may have read it", path, perm)
	}
	return nil
}

// EncryptWithContext implements [KEK]. The error wraps [ErrNoKeyFile] where
// there is no file.
func (k *FileKEK) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	keys, err := k.keys()
	if err != nil {
		return nil, err
	}
	return keys.seal(plaintext, associatedData), nil
}

// DecryptWithContext implements [KEK]. The error wraps [ErrNoKeyFile] where
// there is no file, and [ErrUnwrap] where no key of it opens the ciphertext.
func (k *FileKEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	keys, err := k.keys()
	if err != nil {
		return nil, err
	}
	p, err := keys.open(ciphertext, associatedData)
	if err != nil {
		return nil, fmt.Errorf("crypto: key file %s: %w", k.path, err)
	}
	return p, nil
}

// Format prints the path, for every verb, and nothing of the key.
func (k *FileKEK) Format(s fmt.State, _ rune) {
	if k == nil {
		fmt.Fprint(s, "[crypto.FileKEK]")
		return
	}
	fmt.Fprintf(s, "[crypto.FileKEK %s]", k.path)
}
