// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"os"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/session"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sessionstore"
)

// A wiring is what differs between development (wire_dev.go) and production
// (wire_prod.go).
type wiring struct {
	development bool
	kek         crypto.KEK
	database    gorm.Dialector
	deviations  []access.Deviation
}

// parts are what the app is made of before it is put together: a build that
// breaks a control on purpose changes them (controls.go).
type parts struct {
	access  []rbac.Rule
	minimum []minimize.Rule
	trail   audit.Trail
}

// An app is the clinic, open for business.
type app struct {
	wiring
	options  options
	journal  *audit.Journal
	trail    audit.Trail // the journal
	db       *gorm.DB
	engine   *rbac.Engine
	policy   *minimize.Policy
	sessions *session.Manager
	guard    *httpaccess.Guard
	reports  *report.Reporter
	watch    *sink.Pipe
	pages    map[string]*template.Template
	stop     context.CancelFunc // ends the sweep of sessions
	seen     func() error       // ends the witness
}

// open puts the app together. Each part refuses by itself what is not safe.
func open(ctx context.Context, o options) (_ *app, err error) {
	w, err := wire(o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return nil, fmt.Errorf("clinic: data folder: %w", err)
	}
	a := &app{wiring: w, options: o, stop: func() {}, seen: func() error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	a.journal, err = audit.Open(o.in("audit"), audit.Config{KEK: w.kek, Development: w.development, Deviations: w.deviations})
	if err != nil {
		return nil, err
	}
	seen, err := a.witnessTrail()
	if err != nil {
		return nil, err
	}
	a.seen = seen
	p := parts{access: accessRules(), minimum: minimumRules(), trail: a.journal}
	sabotage(&a.options, &p)
	a.trail = p.trail
	if a.engine, err = rbac.New(rbac.Config{Rules: p.access}); err != nil {
		return nil, err
	}
	if a.policy, err = minimize.New(p.minimum); err != nil {
		return nil, err
	}
	a.db, err = storage.Open(w.database, storage.Config{
		KEK: w.kek, Audit: a.trail, Access: a.engine, Minimize: a.policy,
		Development: w.development, Deviations: w.deviations,
	})
	if err != nil {
		return nil, err
	}
	if err := storage.Migrate(ctx, a.db, models()...); err != nil {
		return nil, err
	}
	if err := sessionstore.Migrate(ctx, a.db); err != nil {
		return nil, err
	}
	sealer, err := storage.Sealer(a.db)
	if err != nil {
		return nil, err
	}
	a.sessions, err = session.New(session.Config{
		Store: sessionstore.New(a.db), Audit: a.trail, Sealer: sealer, Issuer: "Elm Street Clinic",
		Development: w.development, Deviations: w.deviations,
	})
	if err != nil {
		return nil, err
	}
	if a.guard, err = httpaccess.New(httpaccess.Config{Authorizer: a.engine, Audit: a.trail, SignIn: "/signin"}); err != nil {
		return nil, err
	}
	if a.reports, err = a.newReports(); err != nil {
		return nil, err
	}
	if a.pages, err = parsePages(); err != nil {
		return nil, err
	}
	if err := a.addUsers(ctx); err != nil {
		return nil, err
	}
	if err := a.watchTrail(ctx); err != nil {
		return nil, err
	}
	sweep, stop := context.WithCancel(context.Background())
	a.stop = stop
	go func() { _ = a.sessions.Run(sweep) }() // ends with sweep
	return a, nil
}

// close settles what is under way: last the journal, which records all of it.
func (a *app) close() error {
	a.stop()
	var err error
	if a.watch != nil {
		err = a.watch.Close()
	}
	if a.db != nil {
		err = errors.Join(err, storage.Close(a.db))
	}
	if a.journal != nil {
		err = errors.Join(err, a.journal.Close(), a.seen())
	}
	closed(a.options)
	return err
}
