// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/part164/part164/access"
)

// Events returns the events that q selects, newest first, up to those that
// were durable when the iteration began. It ends after the first error. The
// trail does not record by itself that it was read: the caller does, with a
// [Reported] event, before it shows anything.
func (j *Journal) Events(ctx context.Context, q Query) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		if err := j.events(ctx, q, yield); err != nil {
			yield(Stored{}, fmt.Errorf("audit: read events: %w", err))
		}
	}
}

// Replay implements [History].
func (j *Journal) Replay(ctx context.Context, tenant string, types ...Type) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		e, err := j.newest() // before the keys: no line before it is of a later key
		if err == nil {
			m := j.replayer(tenant, types)
			stopped := false
			err = j.scan(ctx, e, m, func(s Stored, err error) bool {
				stopped = !yield(s, err)
				return !stopped
			})
			if err == nil && !stopped {
				err = j.carried(ctx, m, yield)
			}
		}
		if err != nil {
			yield(Stored{}, fmt.Errorf("audit: replay: %w", err))
		}
	}
}

// replayer selects for Replay.
func (j *Journal) replayer(tenant string, types []Type) *matcher {
	return &matcher{q: Query{Tenant: tenant, Types: types}, keys: j.keys.now.Load(), writer: j.keys.writer, lines: newLineWriter(), replay: true}
}

// Issued implements [History].
func (j *Journal) Issued(t Ticket) bool {
	return t.Writer == j.keys.writer && j.keys.now.Load().mac.VerifyMAC(t.MAC, ticketInput(t)) == nil
}

func (j *Journal) events(ctx context.Context, q Query, yield func(Stored, error) bool) error {
	e, err := j.newest() // before the keys: no line before it is of a later key
	if err != nil {
		return err
	}
	m, err := j.matcher(q)
	if err != nil {
		return err
	}
	return j.scan(ctx, e, m, yield)
}

// scan yields what m selects, newest first, of the lines before e.
func (j *Journal) scan(ctx context.Context, e end, m *matcher, yield func(Stored, error) bool) error {
	left := m.q.Limit
	return j.backward(ctx, e, func(index int, data []byte, _ head) (more bool, err error) {
		for text := range linesBackward(data) {
			s, ok, err := m.match(text)
			if err != nil {
				return false, unreadable(segmentName(index), 0, 0, err)
			}
			if !ok {
				continue
			}
			if !yield(s, nil) {
				return false, nil
			}
			if left--; left == 0 {
				return false, nil
			}
		}
		return true, nil
	})
}

// linesBackward yields the whole lines of data, last first.
func linesBackward(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		end := bytes.LastIndexByte(data, '\n')
		for end > 0 {
			start := bytes.LastIndexByte(data[:end], '\n')
			if !yield(data[start+1 : end]) {
				return
			}
			end = start
		}
	}
}

// A matcher selects events by a Query with its IDs as pseudonyms.
type matcher struct {
	q        Query
	keys     *keyState
	writer   string
	lines    *lineWriter
	patients []string // pseudonyms; empty selects every patient
	actor    string   // pseudonym
	replay   bool     // for Replay: of every tenant where the query names none
}

func (j *Journal) matcher(q Query) (*matcher, error) {
	if err := access.CheckID(q.Tenant); err != nil {
		return nil, fmt.Errorf("Query.Tenant %w", err)
	}
	if q.Limit < 0 {
		return nil, errors.New("Query.Limit is negative")
	}
	m := &matcher{q: q, keys: j.keys.now.Load(), writer: j.keys.writer, lines: newLineWriter(), patients: slices.Clone(q.Pseudonyms)}
	var err error
	if q.Patient != "" {
		patient, err := m.keys.pseudonym(q.Tenant, q.Patient)
		if err != nil {
			return nil, err
		}
		m.patients = append(m.patients, patient)
	}
	if q.Actor != "" {
		if m.actor, err = m.keys.pseudonym(q.Tenant, q.Actor); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// match decodes text where the query selects it.
func (m *matcher) match(text []byte) (Stored, bool, error) {
	if len(m.patients) > 0 && m.newest(text) && !slices.ContainsFunc(m.patients, func(p string) bool { return bytes.Contains(text, []byte(p)) }) {
		return Stored{}, false, nil
	}
	f, err := m.lines.parse(text)
	if err != nil {
		return Stored{}, false, err
	}
	typ := Type(f.typ)
	if typ == typeSegment || typ == typeCheckpoint || len(m.q.Types) > 0 && !slices.Contains(m.q.Types, typ) {
		return Stored{}, false, nil
	}
	s, err := decode(m.writer, text)
	if err == nil {
		err = m.keys.bringForward(&s)
	}
	if err != nil {
		return Stored{}, false, err
	}
	switch {
	case !m.q.Since.IsZero() && s.Time.Before(m.q.Since),
		!m.q.Until.IsZero() && !s.Time.Before(m.q.Until),
		m.q.Actor != "" && !m.isActor(&s):
		return Stored{}, false, nil
	}
	switch {
	case m.replay && (m.q.Tenant == "" || typ == Committed || typ == RolledBack),
		len(m.q.Types) > 0 && len(m.patients) == 0 && m.q.Actor == "" && s.Actor.Tenant == "" && len(s.Objects) == 0: // of the trail itself
		return s, true, nil
	}
	mine := s.Actor.Tenant == m.q.Tenant
	s.Objects = slices.DeleteFunc(s.Objects, func(o Object) bool {
		return o.Tenant != m.q.Tenant || len(m.patients) > 0 && !slices.Contains(m.patients, o.Patient)
	})
	if len(m.patients) > 0 {
		return s, len(s.Objects) > 0, nil
	}
	return s, mine || len(s.Objects) > 0, nil
}

// newest reports whether the pseudonyms of the line are those of the newest
// key: others have to be brought forward before they are compared.
func (m *matcher) newest(text []byte) bool {
	return m.keys.version == 1 || bytes.Contains(text, []byte(`,"key":`+strconv.Itoa(m.keys.version)+`,`))
}

func (m *matcher) isActor(s *Stored) bool {
	if s.Actor.Tenant != m.q.Tenant {
		return false
	}
	if s.Actor.Kind == access.Patient || s.Actor.Kind == access.Proxy {
		return s.Actor.ID == m.actor
	}
	return s.Actor.ID == m.q.Actor
}
