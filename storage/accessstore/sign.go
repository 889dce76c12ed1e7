// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
)

// ErrForged means that a row is not one that this package wrote: somebody put it
// there or edited it, past it. It allows nothing.
var ErrForged = errors.New("accessstore: a row was not written by this package")

// The fields of the MACs, one a table.
const (
	relationField  = "access_relation"
	directiveField = "access_directive"
	grantField     = "access_grant"
	stepField      = "access_grant_step"
)

// A signer makes and checks the MACs of rows, with the key of the database's own
// statements, which storage keeps wrapped.
type signer struct {
	db *gorm.DB

	mu    sync.Mutex
	mac   storage.MAC
	at    time.Time       // when mac was read; zero before
	found map[string]bool // forged rows that were recorded
}

const (
	renewAfter = time.Second // between two readings of the key, for a row that does not fit the one in hand: it may be of a newer one
	maxFound   = 1000        // forged rows that are remembered, so that each is recorded once
)

// get returns the MAC in hand, or reads it: anew where the one in hand is older
// than renewAfter.
func (s *signer) get(ctx context.Context, anew bool) (storage.MAC, bool, error) {
	s.mu.Lock()
	mac, at := s.mac, s.at
	s.mu.Unlock()
	if !at.IsZero() && (!anew || time.Since(at) < renewAfter) {
		return mac, false, nil
	}
	mac, err := storage.StatementMAC(ctx, s.db)
	if err != nil {
		return mac, false, fmt.Errorf("accessstore: the key of the rows' MACs: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mac, s.at = mac, time.Now()
	return mac, true, nil
}

// of returns the MAC of a row.
func (s *signer) of(ctx context.Context, r row) ([]byte, error) {
	mac, _, err := s.get(ctx, false)
	if err != nil {
		return nil, err
	}
	field, text, _ := r.signed()
	return mac.Sum(field, text), nil
}

// A row says what its MAC is over, and what it is about in the trail.
type row interface {
	signed() (field, statement string, mac []byte)
	object() audit.Object
}

// changed returns ev with the row that the change leaves in front of its objects,
// and a digest of it: what [Store.Verify] holds the row against. It tells nothing
// to who has not the key of the MAC.
func changed(ev audit.Event, r row, mac []byte) audit.Event {
	o := r.object()
	o.Fields, o.Digests = []string{rowField}, []string{digest(mac)}
	others := slices.DeleteFunc(slices.Clone(ev.Objects), func(x audit.Object) bool { return x.Type == o.Type && x.Record == o.Record })
	ev.Objects = append([]audit.Object{o}, others...)
	return ev
}

// rowField names the whole row, of which the digest is.
const rowField = "row"

func digest(mac []byte) string {
	sum := sha256.Sum256(mac)
	return hex.EncodeToString(sum[:8])
}

// genuine reports whether this package wrote a row. One that it did not is
// recorded, once a process.
func (s *signer) genuine(ctx context.Context, r row) (bool, error) {
	field, statement, sum := r.signed()
	mac, _, err := s.get(ctx, false)
	if err != nil {
		return false, err
	}
	if mac.Valid(field, statement, sum) {
		return true, nil
	}
	mac, renewed, err := s.get(ctx, true)
	if err != nil {
		return false, err
	}
	if renewed && mac.Valid(field, statement, sum) {
		return true, nil
	}
	return false, s.forged(ctx, r.object())
}

func (s *signer) forged(ctx context.Context, o audit.Object) error {
	name := o.Type + "\x00" + o.Tenant + "\x00" + o.Record
	s.mu.Lock()
	known := s.found[name]
	s.mu.Unlock()
	if known {
		return nil
	}
	for _, id := range []*string{&o.Tenant, &o.Record, &o.Patient} { // whoever wrote it may have written anything
		if access.CheckID(*id) != nil {
			*id = ""
		}
	}
	if o.Tenant == "" {
		o.Record, o.Patient = "", ""
	}
	ev := audit.Event{Type: audit.PolicyRefused, Outcome: audit.Failure, Reason: audit.ReasonForged}
	if o.Type == grantObject && access.CheckDecisionID(o.Record) == nil {
		ev.Grant, o.Record = o.Record, "" // as the steps of a grant name it
	}
	ev.Objects = []audit.Object{o}
	trail, err := storage.Trail(s.db)
	if err == nil {
		_, err = trail.Record(ctx, ev)
	}
	if err != nil {
		return fmt.Errorf("accessstore: record a forged row: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.found) >= maxFound {
		s.found = nil
	}
	if s.found == nil {
		s.found = map[string]bool{}
	}
	s.found[name] = true
	return nil
}

// genuine returns those of rows that this package wrote.
func genuine[T any, P interface {
	*T
	row
}](ctx context.Context, s *signer, rows []T) ([]T, error) {
	out := rows[:0]
	for i := range rows {
		ok, err := s.genuine(ctx, P(&rows[i]))
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, rows[i])
		}
	}
	return out, nil
}

// A statement is a text of values, each with its length, so that no two lists of
// values have one text.
type statement []byte

func (s statement) text(values ...string) statement {
	for _, v := range values {
		s = binary.AppendUvarint(s, uint64(len(v)))
		s = append(s, v...)
	}
	return s
}

func (s statement) number(values ...int64) statement {
	for _, v := range values {
		s = s.text(strconv.FormatInt(v, 10))
	}
	return s
}

func (s statement) yes(values ...bool) statement {
	for _, v := range values {
		s = s.text(strconv.FormatBool(v))
	}
	return s
}
