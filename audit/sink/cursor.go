// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/part164/part164/audit"
)

// Two files of a sink lie in the journal's folder, named for it: how far it is,
// and what was parked.
const (
	filePrefix   = "sink-"
	cursorSuffix = ".json"
	parkedSuffix = ".parked"
)

func cursorFile(dir, name string) string { return filepath.Join(dir, filePrefix+name+cursorSuffix) }

// readCursor returns the zero Position, and no error, where there is none yet.
func readCursor(dir, name string) (pos audit.Position, found bool, err error) {
	file := cursorFile(dir, name)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return audit.Position{}, false, nil
	}
	if err != nil {
		return audit.Position{}, false, err
	}
	if err := json.Unmarshal(text, &pos); err != nil {
		return audit.Position{}, false, fmt.Errorf("%s is no cursor: remove it, and the sink gets every event again: %w", filepath.Base(file), err)
	}
	return pos, true, nil
}

// writeCursor replaces the file at once, and durably.
func writeCursor(dir, name string, pos audit.Position) error {
	text, err := json.Marshal(pos)
	if err != nil {
		return err
	}
	file := cursorFile(dir, name)
	f, err := os.OpenFile(file+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		return err
	}
	return syncFolder(dir)
}

// syncFolder makes names durable, where the system can.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) { // Windows
		err = nil
	}
	return errors.Join(err, d.Close())
}
