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
)

// A relay moves outbox rows into the trail: append, wait until it is durable,
// delete. It settles this writer's rows only, those of an earlier run included.
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
	r.mu.Lock()
	defer r.mu.Unlock()
	conn := inner(r.plugin.pool)
	if !r.plugin.own(ctx, conn).Migrator().HasTable(&outboxRow{}) {
		return nil
	}
	for {
		var rows []outboxRow
		err := r.plugin.own(ctx, conn).Where("writer = ?", r.plugin.cfg.Audit.Writer()).Order("attempt").Limit(relayBatch).Find(&rows).Error
		if err != nil {
			return fmt.Errorf("storage: read phi_outbox: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		tickets := make([]audit.Ticket, len(rows))
		ids := make([]string, len(rows))
		for i, row := range rows {
			tickets[i] = audit.Ticket{Attempt: row.Attempt, Writer: row.Writer, Digest: row.Digest, MAC: row.MAC}
			ids[i] = row.Attempt
		}
		refused, err := r.plugin.cfg.Audit.Commit(ctx, tickets)
		if err != nil {
			return fmt.Errorf("storage: settle outbox: %w", err)
		}
		if len(refused) > 0 {
			r.plugin.cfg.Log.Error("outbox rows refused: this trail never issued them", zap.Int("rows", len(refused)))
		}
		if err := r.plugin.own(ctx, conn).Where("attempt IN ?", ids).Delete(&outboxRow{}).Error; err != nil {
			return fmt.Errorf("storage: delete from phi_outbox: %w", err)
		}
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
