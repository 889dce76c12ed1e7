// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/codenotary/immudb/embedded/logger"
	"github.com/codenotary/immudb/embedded/store"
	_ "github.com/glebarez/go-sqlite" // the driver that storage/sqlite uses
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"
)

// trailFigures compare audit's journal with other ways to keep lines of the
// same length durably, each with 64 writers, and each acknowledging what is on
// the disk only.
func trailFigures() []figure {
	return []figure{
		{"audit Record / Tessera POSIX, 1 ms batches, integrated, 64 writers", goal{least: 20}, besideTrail(newTessera)},
		{"audit Record / immudb 1.10 embedded, synced, 64 writers", goal{least: 8}, besideTrail(newImmudb)},
		{"audit Record / SQLite in WAL, synchronous FULL, group commit, 64 writers", goal{least: 1.3}, besideTrail(newGroupSQLite)},
		{"audit Record / NATS JetStream embedded, SyncAlways, 64 writers", goal{}, besideTrail(newJetStream)},
	}
}

// A keeper makes a trail in dir. It records one line; close ends it.
type keeper func(ctx context.Context, dir string, line []byte) (record recorder, close func() error, err error)

// besideTrail is the journal's throughput as a multiple of the other's.
func besideTrail(open keeper) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (value, error) {
		return withJournal(ctx, dir, func(journal recorder, size int) (_ value, err error) {
			line := make([]byte, size)
			for i := range line {
				line[i] = 'a' + byte(i%26)
			}
			record, end, err := open(ctx, filepath.Join(dir, "other"), line)
			if err != nil {
				return value{}, err
			}
			defer func() { err = errors.Join(err, end()) }()
			return ratio(ctx, 7, perEvent(64, record), perEvent(64, journal))
		})
	}
}

// newTessera is a transparency log on POSIX files. Its future resolves once the
// entry is sequenced and integrated, which it does in one synced step; the
// signed checkpoint comes later.
func newTessera(ctx context.Context, dir string, line []byte) (recorder, func() error, error) {
	klog.LogToStderr(false) // its own log
	klog.SetOutput(io.Discard)
	ctx, cancel := context.WithCancel(ctx)
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		cancel()
		return nil, nil, err
	}
	key, _, err := note.GenerateKey(rand.Reader, "part164-peers")
	if err != nil {
		cancel()
		return nil, nil, err
	}
	signer, err := note.NewSigner(key)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	log, shutdown, _, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).WithBatching(256, time.Millisecond))
	if err != nil {
		cancel()
		return nil, nil, err
	}
	var n atomic.Uint64
	record := func(ctx context.Context) error { // no two entries are the same
		_, err := log.Add(ctx, tessera.NewEntry(binary.BigEndian.AppendUint64(append([]byte(nil), line[8:]...), n.Add(1))))()
		return err
	}
	return record, func() error { defer cancel(); return shutdown(ctx) }, nil
}

// newImmudb is the store of immudb 1.10 in this process. Its licence is BUSL:
// it is measured here and linked nowhere else.
func newImmudb(_ context.Context, dir string, line []byte) (recorder, func() error, error) {
	st, err := store.Open(dir, store.DefaultOptions().WithSynced(true).WithMaxConcurrency(128).
		WithLogger(logger.NewSimpleLoggerWithLevel("peers", io.Discard, logger.LogError)))
	if err != nil {
		return nil, nil, err
	}
	var n atomic.Uint64
	record := func(ctx context.Context) error {
		tx, err := st.NewWriteOnlyTx(ctx)
		if err != nil {
			return err
		}
		if err := tx.Set(binary.BigEndian.AppendUint64(nil, n.Add(1)), nil, line); err != nil {
			return errors.Join(err, tx.Cancel())
		}
		_, err = tx.Commit(ctx)
		return err
	}
	return record, st.Close, nil
}

// newGroupSQLite inserts what came meanwhile in one transaction, as the journal
// writes a group.
func newGroupSQLite(ctx context.Context, dir string, line []byte) (recorder, func() error, error) {
	db, err := sql.Open("sqlite", "file:"+dir+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "CREATE TABLE lines (seq INTEGER PRIMARY KEY, line BLOB NOT NULL)"); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	type group struct {
		n    int
		done chan struct{}
		err  error
	}
	var mu sync.Mutex
	making := &group{done: make(chan struct{})}
	kick, ended := make(chan struct{}, 1), make(chan struct{})
	write := func(n int) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		insert, err := tx.PrepareContext(ctx, "INSERT INTO lines (line) VALUES (?)")
		for i := 0; err == nil && i < n; i++ {
			_, err = insert.ExecContext(ctx, line)
		}
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	}
	go func() {
		defer close(ended)
		for range kick {
			mu.Lock()
			g := making
			making = &group{done: make(chan struct{})}
			mu.Unlock()
			if g.n > 0 {
				g.err = write(g.n)
			}
			close(g.done)
		}
	}()
	record := func(context.Context) error {
		mu.Lock()
		g := making
		g.n++
		mu.Unlock()
		select {
		case kick <- struct{}{}:
		default:
		}
		<-g.done
		return g.err
	}
	return record, func() error { close(kick); <-ended; return db.Close() }, nil
}

// newJetStream is a NATS server in this process that syncs before it answers.
func newJetStream(ctx context.Context, dir string, line []byte) (recorder, func() error, error) {
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir, SyncAlways: true, NoLog: true, NoSigs: true})
	if err != nil {
		return nil, nil, err
	}
	s.Start()
	fail := func(err error) (recorder, func() error, error) {
		s.Shutdown()
		return nil, nil, fmt.Errorf("NATS: %w", err)
	}
	if !s.ReadyForConnections(10 * time.Second) {
		return fail(errors.New("it does not start"))
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return fail(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return fail(err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "LINES", Subjects: []string{"lines"}, Storage: jetstream.FileStorage}); err != nil {
		return fail(err)
	}
	record := func(ctx context.Context) error { _, err := js.Publish(ctx, "lines", line); return err }
	return record, func() error { conn.Close(); s.Shutdown(); s.WaitForShutdown(); return nil }, nil
}
