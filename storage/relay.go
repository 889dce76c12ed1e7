// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"gorm.io/gorm"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/internal/again"
)

// A relay moves outbox rows into the trail: append, wait until it is durable,
// delete. It settles this writer's rows only, those of an earlier run included;
// those of a writer that is gone are [Adopt]'s.
type relay struct {
	plugin *plugin
	wake   chan struct{}
	quit   chan struct{}
	done   chan error

	mu sync.Mutex // one drain at a time: two would settle a row twice
}

const (
	relayBatch = 500
	relayRetry = time.Second // after an error
)

func startRelay(p *plugin) *relay {
	r := &relay{plugin: p, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan error, 1)}
	r.kick() // rows of an earlier run
	go r.run()
	return r
}

// kick says that there may be rows.
func (r *relay) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *relay) run() {
	ctx := context.Background()
	for {
		select {
		case <-r.quit:
			r.done <- r.drain(ctx)
			return
		case <-r.wake:
		}
		if err := r.drain(ctx); err != nil {
			r.plugin.cfg.Log.Warn("outbox not settled; will try again", zap.Error(err))
			time.AfterFunc(relayRetry, r.kick)
		}
	}
}

// stop settles what is left and ends the relay.
func (r *relay) stop() error {
	select {
	case <-r.quit:
		return nil
	default:
	}
	close(r.quit)
	return <-r.done
}

// drain settles rows until there are none.
func (r *relay) drain(ctx context.Context) error {
	_, err := r.settle(ctx, r.plugin.cfg.Audit)
	return err
}

// settle settles the rows of a trail's writer and returns how many it
// committed.
func (r *relay) settle(ctx context.Context, trail audit.Trail) (committed int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	conn := inner(r.plugin.pool)
	if !r.plugin.own(ctx, conn).Migrator().HasTable(&outboxRow{}) {
		return 0, nil
	}
	for {
		var rows []outboxRow
		err := r.plugin.own(ctx, conn).Where("writer = ?", trail.Writer()).Order("attempt").Limit(relayBatch).Find(&rows).Error
		if err != nil {
			return committed, fmt.Errorf("storage: read phi_outbox: %w", err)
		}
		if len(rows) == 0 {
			return committed, nil
		}
		tickets := make([]audit.Ticket, len(rows))
		ids := make([]string, len(rows))
		for i, row := range rows {
			tickets[i] = audit.Ticket{Attempt: row.Attempt, Writer: row.Writer, Digest: row.Digest, MAC: row.MAC}
			ids[i] = row.Attempt
		}
		refused, err := trail.Commit(ctx, tickets)
		if err != nil {
			return committed, fmt.Errorf("storage: settle outbox: %w", err)
		}
		if len(refused) > 0 {
			r.plugin.cfg.Log.Error("outbox rows refused: this trail never issued them, or they were rolled back", zap.Int("rows", len(refused)))
		}
		err = again.Do(ctx, func() error {
			return r.plugin.own(ctx, conn).Where("attempt IN ?", ids).Delete(&outboxRow{}).Error
		})
		if err != nil {
			return committed, fmt.Errorf("storage: delete from phi_outbox: %w", err)
		}
		committed += len(rows) - len(refused)
	}
}

// Settle moves the committed writes in the outbox into the audit trail now,
// and returns when they are durable there. The relay does so by itself soon
// after each commit; reports and tests that look at the trail call it first.
func Settle(ctx context.Context, db *gorm.DB) error {
	p, err := pluginOf(db)
	if err != nil {
		return err
	}
	if p.relay == nil {
		return errors.New("storage: settle: the database is closed")
	}
	return p.relay.drain(ctx)
}

// Adopt settles the outbox rows of a writer that is gone, in its own trail,
// and returns how many writes it recorded as committed: open the journal in
// its folder, with the KEK it was made with, and give it here. The lock of
// that folder is the lease: [audit.Open] fails with [audit.ErrLocked] while the
// writer lives. Where the folder went with its machine, [audit.Restore] makes
// it anew from what its Remote has.
//
// Rows that the trail never issued are refused and recorded there, as the
// writer itself would have done. What was settled before a crash and not yet
// deleted is recorded again, under the same attempt.
func Adopt(ctx context.Context, db *gorm.DB, dead audit.Trail) (committed int, err error) {
	p, err := pluginOf(db)
	if err != nil {
		return 0, err
	}
	switch {
	case p.relay == nil:
		return 0, errors.New("storage: adopt: the database is closed")
	case dead == nil || dead.Writer() == "":
		return 0, errors.New("storage: adopt: there is no trail: open the dead writer's journal")
	case dead.Writer() == p.cfg.Audit.Writer():
		return 0, errors.New("storage: adopt: the trail is this database's own: its rows are settled by themselves")
	}
	return p.relay.settle(ctx, dead)
}
