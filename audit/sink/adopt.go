// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/part164/part164/audit"
)

// Adopt delivers what the journal in dir still holds for the sink, and whose
// writer is gone: a process of this app that died for good, on a disk that
// this one can reach. It returns how many events the sink took. Where there is
// nothing to deliver it does nothing and records nothing; else p's journal gets
// an Adopted event first. The cursor lies in the folder of the dead journal, so
// that any process can go on where another stopped.
//
// lease is that of [audit.Journal.Adopt], and so are its errors: an error that
// wraps audit.ErrLocked means that the writer lives. Call it now and then for
// the folders of the other processes.
func (p *Pipe) Adopt(ctx context.Context, dir string, lease time.Duration) (delivered int, err error) {
	fail := func(err error) (int, error) {
		return delivered, fmt.Errorf("audit: sink %s: adopt: %w", p.sink.Name(), err)
	}
	j, ok := p.src.(*audit.Journal)
	if !ok {
		return fail(errors.New("the pipe is not of a journal"))
	}
	pos, _, err := readCursor(dir, p.sink.Name())
	if err != nil {
		return fail(err)
	}
	some := false
	for _, err := range audit.Read(ctx, dir, pos) {
		if err != nil {
			return fail(err)
		}
		some = true
		break
	}
	if !some {
		return 0, nil
	}
	orphan, err := j.Adopt(dir, lease)
	if err != nil {
		return fail(err)
	}
	defer func() {
		if rerr := orphan.Release(); rerr != nil && err == nil {
			err = rerr
		}
	}()
	q, err := newPipe(orphan, j, p.sink, p.cfg)
	if err != nil {
		return fail(err)
	}
	q.delivers = p.delivers // the sink is called by one at a time
	for {
		wait := q.step(ctx)
		delivered = q.taken
		if q.err == nil && wait == poll {
			break
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
		case <-p.done:
			err = errors.New("the pipe is closed")
		}
		t.Stop()
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fail(errors.Join(err, q.err, q.save(true)))
		}
	}
	if err := q.save(true); err != nil {
		return fail(err)
	}
	return delivered, nil
}
