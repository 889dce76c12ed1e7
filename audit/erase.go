// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/part164/part164/access"
)

// An Erasure says which detail goes, and on whose authority.
type Erasure struct {
	Event    string // ID of the event whose detail goes; required
	Reason   Reason // ReasonCourt, ReasonRegulator, ReasonIndividual or ReasonMistake; required
	Citation string // of the authority, such as "164.526(a)(1)"; empty where there is none

	// Early erases before the retention period is over, which is refused
	// otherwise: an accounting of disclosures needs the detail for six years
	// (45 CFR 164.528(a)). A legal hold is never passed over.
	Early bool
}

// Erase destroys the sealed detail of an event: its line keeps the commitment,
// and everything verifies as before. The principal of ctx is required, and the
// event must be by or about its tenant. [Erased] is recorded twice: with the
// outcome [Partial] before anything is destroyed, and with [Success] after.
//
// The bytes are overwritten and removed. What a backup holds, or a disk that
// does not write in place, still opens for whoever has the KEK.
//
// Errors wrap [ErrNoDetail], [ErrErased], [ErrHeld], [ErrRetention], or those
// of [Recorder].
func (j *Journal) Erase(ctx context.Context, e Erasure) error {
	if err := j.erase(ctx, e); err != nil {
		return fmt.Errorf("audit: erase detail: %w", err)
	}
	return nil
}

func (j *Journal) erase(ctx context.Context, e Erasure) error {
	switch e.Reason {
	case ReasonCourt, ReasonRegulator, ReasonIndividual, ReasonMistake:
	default:
		return fmt.Errorf("%w: Erasure.Reason is not court, regulator, individual or mistake", ErrEvent)
	}
	s, err := Stamp(ctx, Event{Type: Erased, Outcome: Partial, Reason: e.Reason, Citation: e.Citation, About: e.Event})
	if err != nil {
		return err
	}
	if s.Actor.ID == "" {
		return access.ErrNoPrincipal
	}
	j.retaining.Lock()
	defer j.retaining.Unlock()
	of, err := j.detailed(ctx, s.Actor.Tenant, e.Event)
	if err != nil {
		return err
	}
	if _, err := j.readDetail(of.Detail); err != nil {
		return err
	}
	if !e.Early && j.cfg.Now().Before(retainedUntil(of)) {
		return fmt.Errorf("%w: set Early if the authority demands it", ErrRetention)
	}
	holds, err := j.holds(ctx)
	if err != nil {
		return err
	}
	lines, err := j.linesOf(ctx, of)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if h := holds.of(l); h != "" {
			return fmt.Errorf("%w: hold %s", ErrHeld, h)
		}
	}
	if _, _, err := j.record(&s, nil); err != nil {
		return err
	}
	dir := filepath.Join(j.dir, detailFolder)
	for _, suffix := range [...]string{"", detailNew} {
		err := os.Rename(filepath.Join(dir, of.Detail+suffix), filepath.Join(dir, of.Detail+detailErase))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := syncFolder(dir); err != nil {
		return err
	}
	if err := destroyFile(dir, of.Detail+detailErase); err != nil {
		return fmt.Errorf("begun, and ended by the next Open: %w", err)
	}
	s.Outcome = Success
	_, _, err = j.record(&s, nil)
	return err
}

// finishErasure destroys what Erase had begun to.
func (j *Journal) finishErasure(name string) error {
	s, err := j.committer(name, strings.TrimSuffix(name, detailErase))
	if err != nil {
		return err
	}
	if err := destroyFile(filepath.Join(j.dir, detailFolder), name); err != nil || s == nil {
		return err
	}
	_, _, err = j.record(&Stored{Type: Erased, Outcome: Success, About: s.ID}, nil)
	return err
}
