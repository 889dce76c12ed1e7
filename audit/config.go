// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/crypto"
)

const (
	// defaultSegment is small enough to be made ahead in about a second and
	// large enough to be rolled seldom.
	defaultSegment     = 64 << 20
	developmentSegment = 1 << 20
	minSegment         = 256 << 10 // holds the longest line
	maxSegment         = 1 << 30

	defaultTimeout    = 2 * time.Second
	defaultCheckpoint = time.Second
	maxCheckpoint     = time.Minute

	// heartbeat is the time between two checkpoints of an idle journal, so
	// that a gap in it shows: systemd-journald seals as often, and
	// CVE-2023-31438 came of leaving idle times unsealed.
	heartbeat = 15 * time.Minute
)

// Config configures [Open]. The zero value of every field is the production
// setting; only KEK is required.
type Config struct {
	// KEK wraps the journal's keys. Required, unless Development.
	KEK crypto.KEK

	// Development takes a KEK where none is given from a file beside the folder
	// (the folder's name and ".kek"), makes the key file of a new journal where
	// it is missing, makes segments small, and allows a folder on an overlay
	// file system. It is recorded as a deviation.
	Development bool

	// SegmentSize is the size of a segment in bytes, from 256 KiB to 1 GiB.
	// Zero means 64 MiB, in Development 1 MiB.
	SegmentSize int64

	// Durability says where an event must be before Record returns, beside the
	// folder: nil means that the folder's disk is enough. With a Remote the
	// folder may lie on an overlay file system or in memory, as in a container
	// without a lasting disk, and an outage of the Remote refuses events. An
	// event with a Detail is refused there: its sealed part is kept in the
	// folder only.
	Durability Remote

	// EmergencyOpen lets break-glass go on while the journal cannot record.
	// Nil refuses it as all else.
	EmergencyOpen *Emergency

	// Clocks are compared with Now once a minute: give the database's, and a
	// witness's.
	Clocks []Clock

	// Timeout bounds one Record, Attempt, Commit or Rollback. Zero means
	// 2 seconds.
	Timeout time.Duration

	// CheckpointEvery is the time between two signed checkpoints of a journal
	// that grows: what a crash leaves unsigned is no older. Zero means 1
	// second; at most a minute.
	CheckpointEvery time.Duration

	// Deviations are in force from Open on; each is recorded by its citation.
	Deviations []access.Deviation

	// Node names the machine or container in the event of Open. An opaque ID;
	// empty names none.
	Node string

	// Disk holds the segments; nil means the folder. It serves tests of what
	// happens when a disk fails: see audittest.NewDisk.
	Disk Disk

	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// Log is told what an operator should know: never PHI. Nil is silent.
	Log *zap.Logger
}

// complete checks cfg and fills in its defaults.
func (cfg *Config) complete() error {
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = defaultSegment
		if cfg.Development {
			cfg.SegmentSize = developmentSegment
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.CheckpointEvery == 0 {
		cfg.CheckpointEvery = defaultCheckpoint
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	switch {
	case cfg.KEK == nil && !cfg.Development:
		return fmt.Errorf("Config.KEK is nil: give a KMS key, or set Development for a key file")
	case cfg.SegmentSize < minSegment || cfg.SegmentSize > maxSegment:
		return fmt.Errorf("Config.SegmentSize is not between %d and %d bytes", minSegment, maxSegment)
	case cfg.Timeout < 0:
		return fmt.Errorf("Config.Timeout is negative")
	case cfg.CheckpointEvery < 0 || cfg.CheckpointEvery > maxCheckpoint:
		return fmt.Errorf("Config.CheckpointEvery is not between 0 and %v", maxCheckpoint)
	}
	if cfg.Node != "" {
		if err := access.CheckID(cfg.Node); err != nil {
			return fmt.Errorf("Config.Node %w", err)
		}
	}
	if cfg.EmergencyOpen != nil {
		e := *cfg.EmergencyOpen
		if err := e.complete(); err != nil {
			return fmt.Errorf("Config.EmergencyOpen.%w", err)
		}
		cfg.EmergencyOpen = &e
	}
	for i := range cfg.Clocks {
		if err := cfg.Clocks[i].validate(); err != nil {
			return fmt.Errorf("Config.Clocks[%d].%w", i, err)
		}
	}
	for i, d := range cfg.Deviations {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("Config.Deviations[%d]: %w", i, err)
		}
		if !isCitation(d.Citation) {
			return fmt.Errorf("Config.Deviations[%d].Citation is not a provision of 45 CFR 160, 162 or 164, or of 42 CFR 2, in the form 164.312(a)(2)(iv)", i)
		}
	}
	return nil
}
