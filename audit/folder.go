// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

// A fsKind says whether a file system keeps what it is given.
type fsKind int

const (
	fsUnknown fsKind = iota // nothing known against it
	fsMemory                // gone with the power: never
	fsLayer                 // gone with the container: development only
)

const ownerFile = "owner" // who holds the lock, for whoever does not get it

// claimFolder makes the folder where it is missing, refuses one that cannot
// hold a journal, and takes its lock.
func claimFolder(dir string, cfg *Config) (release func() error, err error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%w: it is a file: name a folder", ErrFolder)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: it cannot be made: %w: name a folder that this user may write to", ErrFolder, err)
	}
	if info, err := os.Stat(dir); err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0 {
		// Not refused: volumes are often mounted so, for one process alone.
		cfg.Log.Warn("audit: everybody on this machine may write to the journal's folder: chmod o-w it")
	}
	name, kind, err := fileSystem(dir)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: its file system does not answer: %w", ErrFolder, err)
	case cfg.Durability != nil:
	case kind == fsMemory:
		return nil, fmt.Errorf("%w: it lies on %s, which is gone when the machine stops: name a folder on a disk", ErrFolder, name)
	case kind == fsLayer && !cfg.Development:
		return nil, fmt.Errorf("%w: it lies on %s, which is gone with the container: mount a volume there", ErrFolder, name)
	case kind == fsLayer:
		cfg.Log.Warn("audit: the journal lies on an overlay file system and is gone with the container; only Development allows it")
	}
	release, err = lockFolder(dir)
	if errors.Is(err, ErrLocked) {
		owner, _ := readSmall(dir, ownerFile)
		if len(owner) == 0 || len(owner) > 200 {
			owner = []byte("another process")
		}
		return nil, fmt.Errorf("%w by %s: stop it, or give each process a folder of its own", ErrLocked, owner)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be locked: %w", ErrFolder, err)
	}
	host, _ := os.Hostname()
	owner := "process " + strconv.Itoa(os.Getpid()) + " on " + strconv.Quote(host) + " since " + cfg.Now().UTC().Format(time.RFC3339)
	if err := writeFile(dir, ownerFile, []byte(owner), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: it cannot be written: %w: give this user the right, or make room", ErrFolder, err), release())
	}
	return release, nil
}
