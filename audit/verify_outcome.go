// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"fmt"
	"strconv"
)

// An outcome is what a line says became of an attempt.
type outcome struct {
	attempt    string // its event ID
	rolledBack bool   // or committed
	at         Defect // where the line stands
}

// outcomeOf reads the outcome of a [Committed] or [RolledBack] line.
func outcomeOf(at Defect, f *frame) (outcome, bool) {
	rest, ok := bytes.CutPrefix(f.rest, []byte(`,"attempt":"`))
	if !ok {
		return outcome{}, false
	}
	end := bytes.IndexByte(rest, '"')
	if end <= 0 {
		return outcome{}, false
	}
	return outcome{attempt: string(rest[:end]), rolledBack: Type(f.typ) == RolledBack, at: at}, true
}

// attemptSeq returns the sequence of an attempt of writer.
func attemptSeq(id, writer string) (uint64, bool) {
	if len(id) <= len(writer) || id[:len(writer)] != writer || id[len(writer)] != '.' {
		return 0, false
	}
	seq, err := strconv.ParseUint(id[len(writer)+1:], 10, 64)
	return seq, err == nil
}

// settle takes note of an outcome. It may be said again; a write that is said
// to be committed and to be rolled back is a defect: an outbox row was kept and
// put back, or what rolled back was not what was attempted.
func (v *verification) settle(o outcome) {
	if seq, ok := attemptSeq(o.attempt, v.writer); ok {
		v.decide(seq, o, v)
		return
	}
	if was, ok := v.foreign[o.attempt]; !ok {
		v.foreign[o.attempt] = o
	} else if was.rolledBack != o.rolledBack {
		v.contradicts(o)
	}
}

// decide notes the outcome of the attempt at seq, which stands in the journal
// by.
func (v *verification) decide(seq uint64, o outcome, by *verification) {
	_, open := v.open[seq]
	_, undone := v.undone[seq]
	switch {
	case open && o.rolledBack:
		v.undone[seq] = struct{}{}
		delete(v.open, seq)
	case open:
		delete(v.open, seq)
	case o.rolledBack == undone: // said again
	case undone, seq >= v.report.FirstSeq && seq < v.chain.seq && !v.lost: // else its attempt may be purged, or lost
		by.contradicts(o)
	}
}

func (v *verification) contradicts(o outcome) {
	d := o.at
	d.Problem = fmt.Sprintf("the write %s is committed here, and was rolled back before: only one can be true: a row of it may have been put back into the outbox", clipped(o.attempt))
	if o.rolledBack {
		d.Problem = fmt.Sprintf("the write %s is rolled back here, and was committed before: only one can be true", clipped(o.attempt))
	}
	lost := v.lost
	v.defect(d)
	v.lost = lost
}
