// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"fmt"
	"time"
)

// A Silence is a time in which a journal signed nothing though it was not
// closed. An idle journal signs a heartbeat every 15 minutes, so that times at
// which somebody could have cut it, and let it go on, stand out (systemd-journald
// did not: CVE-2023-31438).
type Silence struct {
	File string    `json:"file"`     // of the checkpoint that ends it
	Seq  uint64    `json:"sequence"` // of that checkpoint
	From time.Time `json:"from"`
	To   time.Time `json:"to"`

	// Reopened means that the journal was opened in that time: its process was
	// gone. Otherwise it ran and did not sign: its disk was full or failed, or
	// the machine stood still.
	Reopened bool `json:"reopened"`
}

func (s Silence) String() string {
	why := "it was in use: its disk may have failed, or lines may have been taken out"
	if s.Reopened {
		why = "it was opened again, and not closed before: its process was killed or crashed, or its end was cut off"
	}
	return fmt.Sprintf("%s: sequence %d: nothing was signed for %v from %s on: %s",
		s.File, s.Seq, s.To.Sub(s.From).Round(time.Second), s.From.UTC().Format(time.RFC3339), why)
}

// A pulse is what is known of a journal's life since its newest checkpoint.
type pulse struct {
	at      time.Time     // of that checkpoint
	unknown bool          // lines are missing since
	closed  bool          // the newest line but checkpoints is journal.closed
	stopped bool          // it was when the checkpoint was signed
	opened  bool          // since
	stepped time.Duration // that the clock was set forward since, or the machine stood still, by its own record
}

// line takes note of a line.
func (p *pulse) line(f *frame) {
	switch typ := Type(f.typ); typ {
	case typeCheckpoint:
	case Opened:
		p.opened, p.closed = true, false
	case ClockOff:
		p.closed = false
		var s struct {
			Reason Reason `json:"reason"`
			Count  int64  `json:"count"`
		}
		rest := append([]byte(`{"type":""`), f.rest...)
		if json.Unmarshal(append(rest, '}'), &s) == nil && s.Reason == ReasonSetForward {
			p.stepped += time.Duration(s.Count) * time.Millisecond
		}
	default:
		p.closed = typ == Closed
	}
}

// beat takes note of a checkpoint, and returns the silence that it ends.
func (p *pulse) beat(file string, seq uint64, now time.Time) (Silence, bool) {
	s := Silence{File: file, Seq: seq, From: p.at, To: now, Reopened: p.opened}
	long := !p.at.IsZero() && !p.unknown && !p.stopped && now.Sub(p.at)-p.stepped > heartbeat+unsignedFor
	*p = pulse{at: now, closed: p.closed, stopped: p.closed}
	return s, long
}

// beat takes note of a checkpoint at a place.
func (v *verification) beat(at Defect, p *pulse, now time.Time) {
	if s, ok := p.beat(at.File, at.Seq, now); ok {
		v.silence(s)
	}
}

func (v *verification) silence(s Silence) {
	if len(v.report.Silences) < maxDefects {
		v.report.Silences = append(v.report.Silences, s)
	}
}
