// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/tombstone"
)

// A source knows, apart from the database, who was shredded.
type source interface {
	// newest returns the highest count of tombstones of the database.
	newest(ctx context.Context, database string) (uint64, error)

	// all returns whether a patient was shredded, and how many such patients
	// and which highest count the source knows, of this database and of others
	// that share its key.
	all(ctx context.Context, database string) (has func(tenant, subject string) bool, known int, count uint64, err error)

	// add makes one tombstone durable.
	add(ctx context.Context, meta metaRow, tenant, subject string) error

	// heal adds the tombstones of the database that the source lacks: a
	// process died before it had added them.
	heal(ctx context.Context, p *plugin, meta metaRow) error
}

// tombstones returns the source, nil where there is none.
func (p *plugin) tombstones(mac metaMAC) source {
	if p.cfg.Tombstones != nil {
		return &logSource{p, p.cfg.Tombstones, mac}
	}
	if h, ok := p.cfg.Audit.(audit.History); ok {
		return trailSource{[]audit.History{h}}
	}
	return nil
}

// A logSource is Config.Tombstones.
type logSource struct {
	p   *plugin
	log tombstone.Log
	mac metaMAC
}

func tombstoneStatement(e tombstone.Entry) string {
	return strconv.FormatUint(e.Count, 10) + " " + e.Time.UTC().Format("2006-01-02T15:04:05.000000000Z") + " " + base64.RawURLEncoding.EncodeToString(e.Subject) + " " + e.Database
}

// each calls f for each entry that has a valid MAC. One of the database that
// has none is an error.
func (s *logSource) each(ctx context.Context, database string, f func(tombstone.Entry)) error {
	for e, err := range s.log.Entries(ctx) {
		if err != nil {
			return err
		}
		switch {
		case s.mac.keys != nil && s.mac.valid(tombstoneField, tombstoneStatement(e), e.MAC):
			f(e)
		case e.Database == database:
			// Also where the copy is older than the key of the MACs: it is
			// behind then, and not to be told from a forged list.
			return fmt.Errorf("an entry's MAC does not verify: restore the list, or the key tables of the same database: %w", ErrRestored)
		}
	}
	return nil
}

func (s *logSource) newest(ctx context.Context, database string) (n uint64, err error) {
	err = s.each(ctx, database, func(e tombstone.Entry) {
		if e.Database == database {
			n = max(n, e.Count)
		}
	})
	return n, err
}

func (s *logSource) all(ctx context.Context, database string) (func(string, string) bool, int, uint64, error) {
	known := map[string]bool{}
	var count uint64
	err := s.each(ctx, database, func(e tombstone.Entry) {
		known[string(e.Subject)] = true
		count = max(count, e.Count)
	})
	has := func(tenant, subject string) bool {
		return slices.ContainsFunc(s.mac.pseudonyms(tenant, subject), func(ps []byte) bool { return known[string(ps)] })
	}
	return has, len(known), count, err
}

func (s *logSource) add(ctx context.Context, meta metaRow, tenant, subject string) error {
	e := tombstone.Entry{Database: meta.DatabaseID, Count: meta.Tombstones, Subject: s.mac.pseudonyms(tenant, subject)[0], Time: s.p.now().Round(0)}
	e.MAC = s.mac.sum(tombstoneField, tombstoneStatement(e))
	return s.log.Append(ctx, e)
}

func (s *logSource) heal(ctx context.Context, p *plugin, meta metaRow) error {
	has, _, _, err := s.all(ctx, meta.DatabaseID)
	if err != nil {
		return fmt.Errorf("storage: open: tombstones: %w", err)
	}
	return p.eachSubject(ctx, true, func(tenant, subject string) error {
		if has(tenant, subject) {
			return nil
		}
		return s.add(ctx, meta, tenant, subject)
	})
}

// A trailSource is the audit trail, and those of other nodes where they are
// given.
type trailSource struct{ histories []audit.History }

func (s trailSource) newest(ctx context.Context, database string) (n uint64, err error) {
	for _, h := range s.histories {
		for ev, err := range h.Replay(ctx, "", audit.Shredded) {
			if err != nil {
				return 0, err
			}
			if ev.Reason == audit.ReasonPending && names(h, ev, databaseObject, database) {
				n = max(n, uint64(ev.Count))
				break // the newest of this trail
			}
		}
	}
	return n, nil
}

// names reports whether an event has an object of a type and ID.
func names(h audit.History, ev audit.Stored, typ, id string) bool {
	return slices.ContainsFunc(ev.Objects, func(o audit.Object) bool {
		return o.Type == typ && o.Record == h.Pseudonym(o.Tenant, id)
	})
}

func (s trailSource) all(ctx context.Context, _ string) (func(string, string) bool, int, uint64, error) {
	type who struct {
		h               int
		tenant, subject string // pseudonym
	}
	known := map[who]bool{}
	var count uint64
	for i, h := range s.histories {
		committed := map[string]bool{}
		for ev, err := range h.Replay(ctx, "", audit.Shredded, audit.WriteAttempt, audit.Committed) {
			if err != nil {
				return nil, 0, 0, err
			}
			switch ev.Type {
			case audit.Committed:
				committed[ev.Attempt] = true
				continue
			case audit.WriteAttempt:
				done := committed[ev.ID]
				delete(committed, ev.ID)
				if ev.Action != access.Shred || !done {
					continue
				}
			case audit.Shredded:
				if ev.Reason != audit.ReasonPending {
					continue
				}
				count = max(count, uint64(ev.Count))
			}
			for _, o := range ev.Objects {
				if o.Patient != "" {
					known[who{i, o.Tenant, o.Patient}] = true
				}
			}
		}
	}
	has := func(tenant, subject string) bool {
		for i, h := range s.histories {
			if known[who{i, tenant, h.Pseudonym(tenant, subject)}] {
				return true
			}
		}
		return false
	}
	return has, len(known), count, nil
}

// add does nothing: the event itself is the tombstone.
func (trailSource) add(context.Context, metaRow, string, string) error { return nil }

// heal does nothing: what is missing are the events of other nodes.
func (trailSource) heal(context.Context, *plugin, metaRow) error { return nil }
