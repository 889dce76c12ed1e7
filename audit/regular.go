// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// errIrregular means that a name in the folder does not stand for a file of its
// own: reading a pipe would wait for ever, and what a link leads to is not in
// the folder.
var errIrregular = errors.New("it is no regular file")

// openRegular opens the file name in dir to be read, and nothing else by that
// name.
func openRegular(dir, name string) (*os.File, fs.FileInfo, error) {
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%w but a %s", errIrregular, kindOf(info.Mode()))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|readFlags, 0)
	if err != nil {
		return nil, nil, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() { // put there since
		err = errIrregular
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// smallFile bounds the files beside the segments.
const smallFile = 1 << 20

// readSmall reads one of the files beside the segments.
func readSmall(dir, name string) ([]byte, error) {
	f, info, err := openRegular(dir, name)
	if errors.Is(err, errIrregular) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > smallFile {
		return nil, fmt.Errorf("%s has %d bytes, which is no file of a journal", name, info.Size())
	}
	return io.ReadAll(io.LimitReader(f, smallFile))
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "folder"
	case m&fs.ModeSymlink != 0:
		return "symbolic link: put in its place the file that it leads to"
	case m&fs.ModeNamedPipe != 0:
		return "pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}
