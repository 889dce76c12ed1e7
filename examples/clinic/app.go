// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"os"
	"sync"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/session"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
	"github.com/part164/part164/storage/sessionstore"
)

// A wiring is what differs between development (wire_dev.go) and production
// (wire_prod.go).
type wiring struct {
	development bool
	kek         crypto.KEK
	database    gorm.Dialector
	team        []string                                 // logins of those who care for patients who are seeded or imported
	tell        func(context.Context, grant.Alert) error // the privacy officer, that the glass was broken
	deviations  []access.Deviation
}

// parts are what the app is made of before it is put together: a build that
// breaks a control on purpose changes them (controls.go).
type parts struct {
	access     []rbac.Rule
	tenantWide []access.Purpose
	minimum    []minimize.Rule
	trail      audit.Trail
}

// An app is the clinic, open for business.
type app struct {
	wiring
	options    options
	journal    *audit.Journal
	trail      audit.Trail // the journal
	db         *gorm.DB
	policy     *policystore.Store    // what each role may do
	relations  *relation.Relations   // who cares for whom
	directives *directive.Directives // what patients restrict
	grants     grant.Store           // rights for a time, and broken glass
	desk       *grant.Desk           // who has broken the glass, or a role for a time
	point      *pdp.Point            // decides by them
	minimum    *minimize.Policy
	sessions   *session.Manager
	guard      *httpaccess.Guard
	reports    *report.Reporter
	watch      *sink.Pipe
	pages      map[string]*template.Template
	log        *slog.Logger
	stop       context.CancelFunc // ends what runs beside the requests
	running    sync.WaitGroup
	seen       func() error // ends the witness
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
	a := &app{wiring: w, options: o, log: slog.Default(), stop: func() {}, seen: func() error { return nil }}
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
	p := parts{access: accessRules(), tenantWide: tenantWide(), minimum: minimumRules(), trail: a.journal}
	sabotage(&a.options, &p)
	a.trail = p.trail
	if a.minimum, err = minimize.New(p.minimum); err != nil {
		return nil, err
	}
	if err := a.openDatabase(ctx, p); err != nil {
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
	if a.guard, err = a.newGuard(); err != nil {
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
	beside, stop := context.WithCancel(context.Background())
	a.stop = stop
	for _, run := range []func(context.Context) error{a.sessions.Run, a.desk.Run} {
		a.running.Go(func() { _ = run(beside) }) // its error is that of beside
	}
	return a, nil
}

// close settles what is under way: last the journal, which records all of it.
func (a *app) close() error {
	a.stop()
	a.running.Wait()
	var err error
	if a.watch != nil {
		err = a.watch.Close()
	}
	if a.policy != nil {
		err = errors.Join(err, a.policy.Close())
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
