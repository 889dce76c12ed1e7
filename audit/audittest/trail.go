// SPDX-License-Identifier: Apache-2.0

package audittest

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/internal/fault"
)

// A Trail is an [audit.Trail] in memory. It keeps events with IDs in clear,
// so that a test can compare them with what it did. It is safe for concurrent
// use.
type Trail struct {
	writer string
	key    [32]byte

	mu     sync.Mutex
	events []audit.Stored
	seq    uint64
	closed bool
	undone map[string]bool // attempts that were rolled back

	details map[string]audit.Detail // by event ID

	faults fault.Faults
}

var (
	_ audit.Trail   = (*Trail)(nil)
	_ audit.History = (*Trail)(nil)
	_ audit.Details = (*Trail)(nil)
)

// New returns an empty Trail that is closed when the test ends.
func New(t testing.TB) *Trail {
	t.Helper()
	var writer [16]byte
	rand.Read(writer[:])
	tr := &Trail{writer: fmt.Sprintf("j%x", writer), undone: make(map[string]bool), details: make(map[string]audit.Detail)}
	rand.Read(tr.key[:])
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// Fail makes every later call fail with [audit.ErrUnavailable] and err, and
// record nothing, until Fail(nil).
func (tr *Trail) Fail(err error) { tr.FailAfter(0, err) }

// FailAfter lets n more events through and makes every later one fail as Fail
// does, until Fail(nil).
func (tr *Trail) FailAfter(n int, err error) { tr.faults.FailAfter(n, err) }

// Delay makes every later event take at least d before it is recorded, whatever
// becomes of its context: what was begun is recorded. Delay(0) ends it.
func (tr *Trail) Delay(d time.Duration) { tr.faults.Delay(d) }

// Events returns what was recorded, oldest first.
func (tr *Trail) Events() []audit.Stored {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.events)
}

// Reset forgets what was recorded. Tickets stay good.
func (tr *Trail) Reset() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.events = nil
}

// Writer implements [audit.Trail].
func (tr *Trail) Writer() string { return tr.writer }

// Record implements [audit.Recorder].
func (tr *Trail) Record(ctx context.Context, ev audit.Event) (audit.Receipt, error) {
	if err := ev.Type.CheckRecord(); err != nil {
		return audit.Receipt{}, err
	}
	id, err := tr.record(ctx, ev)
	return audit.Receipt{ID: id}, err
}

// Attempt implements [audit.Trail].
func (tr *Trail) Attempt(ctx context.Context, ev audit.Event) (audit.Ticket, error) {
	if err := ev.Type.CheckAttempt(); err != nil {
		return audit.Ticket{}, err
	}
	id, err := tr.record(ctx, ev)
	if err != nil {
		return audit.Ticket{}, err
	}
	digest := sha256.Sum256([]byte(id))
	ticket := audit.Ticket{Attempt: id, Writer: tr.writer, Digest: digest[:]}
	ticket.MAC = tr.mac(ticket)
	return ticket, nil
}

// Commit implements [audit.Trail].
func (tr *Trail) Commit(ctx context.Context, tickets []audit.Ticket) (refused []audit.Ticket, err error) {
	return tr.settle(audit.Committed, tickets)
}

// Rollback implements [audit.Trail].
func (tr *Trail) Rollback(ctx context.Context, tickets []audit.Ticket) error {
	refused, err := tr.settle(audit.RolledBack, tickets)
	if err == nil && len(refused) > 0 {
		err = fmt.Errorf("%w: %d of the tickets to roll back were not issued by this trail", audit.ErrEvent, len(refused))
	}
	return err
}

// Replay implements [audit.History].
func (tr *Trail) Replay(ctx context.Context, tenant string, types ...audit.Type) iter.Seq2[audit.Stored, error] {
	return func(yield func(audit.Stored, error) bool) {
		for _, s := range slices.Backward(tr.Events()) {
			if err := ctx.Err(); err != nil {
				yield(audit.Stored{}, err)
				return
			}
			if len(types) > 0 && !slices.Contains(types, s.Type) {
				continue
			}
			if tenant != "" && s.Type != audit.Committed && s.Type != audit.RolledBack {
				mine := s.Actor.Tenant == tenant
				s.Objects = slices.DeleteFunc(slices.Clone(s.Objects), func(o audit.Object) bool { return o.Tenant != tenant })
				if !mine && len(s.Objects) == 0 {
					continue
				}
			}
			if !yield(s, nil) {
				return
			}
		}
	}
}

// Pseudonym implements [audit.History]: the ID itself.
func (tr *Trail) Pseudonym(_, id string) string { return id }

// Issued implements [audit.History].
func (tr *Trail) Issued(ticket audit.Ticket) bool {
	return ticket.Writer == tr.writer && hmac.Equal(ticket.MAC, tr.mac(ticket))
}

// Detail implements [audit.Details].
func (tr *Trail) Detail(ctx context.Context, event string) (audit.Detail, error) {
	tr.mu.Lock()
	detail, ok := tr.details[event]
	var of audit.Stored
	for _, s := range tr.events {
		if s.ID == event {
			of = s
		}
	}
	tr.mu.Unlock()
	s, err := audit.Stamp(ctx, audit.Event{Type: audit.DetailOpened, Outcome: audit.Success, About: event})
	if err != nil {
		return audit.Detail{}, err
	}
	mine := of.Actor.Tenant == s.Actor.Tenant || slices.ContainsFunc(of.Objects, func(o audit.Object) bool { return o.Tenant == s.Actor.Tenant })
	if !ok || !mine {
		return audit.Detail{}, audit.ErrNoDetail
	}
	if _, err := tr.keep(s, nil); err != nil {
		return audit.Detail{}, err
	}
	return detail, nil
}

// Close makes every later call fail with [audit.ErrClosed].
func (tr *Trail) Close() error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.closed = true
	return nil
}

func (tr *Trail) record(ctx context.Context, ev audit.Event) (string, error) {
	s, err := audit.Stamp(ctx, ev)
	if err != nil {
		return "", err
	}
	s.Objects = slices.Clone(s.Objects)
	for i := range s.Objects {
		o := &s.Objects[i]
		if o.Tenant == "" {
			o.Tenant = s.Actor.Tenant
		}
		o.Fields, o.Digests = slices.Clone(o.Fields), slices.Clone(o.Digests)
	}
	if ev.Detail == nil {
		return tr.keep(s, nil)
	}
	detail := *ev.Detail
	commitment := sha256.Sum256([]byte(rand.Text())) // commits to nothing: the detail is kept in clear
	s.Detail = base64.RawURLEncoding.EncodeToString(commitment[:])
	return tr.keep(s, &detail)
}

func (tr *Trail) settle(as audit.Type, tickets []audit.Ticket) (refused []audit.Ticket, err error) {
	forged := 0
	for _, ticket := range tickets {
		issued := tr.Issued(ticket)
		if !issued {
			forged++
		}
		if !issued || as == audit.Committed && tr.isUndone(ticket) {
			refused = append(refused, ticket)
			continue
		}
		if _, err := tr.keep(audit.Stored{Type: as, Outcome: audit.Success, Attempt: ticket.Attempt}, nil); err != nil {
			return refused, err
		}
		if as == audit.RolledBack {
			tr.mu.Lock()
			tr.undone[ticket.Attempt] = true
			tr.mu.Unlock()
		}
	}
	if forged > 0 {
		_, err = tr.keep(audit.Stored{Type: audit.OutboxRefused, Outcome: audit.Failure, Reason: audit.ReasonForged, Count: forged}, nil)
	}
	if n := len(refused) - forged; n > 0 && err == nil {
		_, err = tr.keep(audit.Stored{Type: audit.OutboxRefused, Outcome: audit.Failure, Reason: audit.ReasonUndone, Count: n}, nil)
	}
	return refused, err
}

func (tr *Trail) isUndone(t audit.Ticket) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.undone[t.Attempt]
}

// keep records s with its detail, or fails as it was told to.
func (tr *Trail) keep(s audit.Stored, detail *audit.Detail) (string, error) {
	err := tr.faults.Call(context.Background())
	tr.mu.Lock()
	defer tr.mu.Unlock()
	switch {
	case tr.closed:
		return "", audit.ErrClosed
	case err != nil:
		return "", fmt.Errorf("%w: %w", audit.ErrUnavailable, err)
	}
	s.Seq, s.Time = tr.seq, time.Now().UTC()
	tr.seq++
	s.ID = tr.writer + "." + strconv.FormatUint(s.Seq, 10)
	tr.events = append(tr.events, s)
	if detail != nil {
		if tr.details == nil { // of a Trail that New did not make
			tr.details = make(map[string]audit.Detail)
		}
		tr.details[s.ID] = *detail
	}
	return s.ID, nil
}

func (tr *Trail) mac(ticket audit.Ticket) []byte {
	h := hmac.New(sha256.New, tr.key[:])
	for _, part := range [...]string{ticket.Attempt, ticket.Writer, string(ticket.Digest)} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}
