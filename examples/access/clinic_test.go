// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"errors"
	"log"
	"os"
	"path/filepath"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/sqlite"
)

type Patient struct {
	storage.PatientRecord
	Name storage.Sealed[string] `phi:"name"`
}

type SessionNote struct { // of psychotherapy
	storage.Record
	PatientID string                 `phi:"subject" gorm:"size:36;index"`
	AuthorID  string                 `phi:"-" gorm:"size:64"`
	Text      storage.Sealed[string] `phi:"text"`
}

type Shift struct { // who has whom tonight: a table that the app has anyway
	storage.Record
	PatientID string    `phi:"subject" gorm:"size:36;index"`
	NurseID   string    `phi:"-" gorm:"size:64;index"`
	Ends      time.Time `phi:"-"`
}

// A decider is the rbac.Engine of step 2, or the policystore.Store of step 6: the
// decision point asks it, and so do relations and directives, for who may change
// them.
type decider interface {
	access.Authorizer
	pdp.Policy
}

// A clinic is the parts of an app.
type clinic struct {
	db         *gorm.DB
	journal    *audit.Journal
	policy     decider
	relations  *relation.Relations
	directives *directive.Directives
	desk       *grant.Desk
	point      *pdp.Point
}

// open puts the parts together, in the order in which they need each other.
func open(dir string, journal *audit.Journal, newPolicy func(*accessstore.Store) (decider, error)) (*clinic, error) {
	ctx := context.Background()
	kek, err := crypto.LocalKEK(filepath.Join(dir, "kek.json"))
	if err != nil {
		return nil, err
	}
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "app.db")), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	if err := accessstore.Migrate(ctx, db); err != nil {
		return nil, err
	}
	store := accessstore.New(db)
	policy, err := newPolicy(store)
	if err != nil {
		return nil, err
	}
	c := &clinic{db: db, journal: journal, policy: policy}
	if c.relations, err = relation.New(relation.Config{
		Store: store.Relations(), Access: policy, Audit: journal,
		Others: []func(access.Principal, access.Purpose, time.Time) access.Set{onShift(db)},
	}); err != nil {
		return nil, err
	}
	if c.directives, err = directive.New(directive.Config{
		Store: store.Directives(), Access: policy, Audit: journal,
		Needs: []directive.Need{directive.PsychotherapyNotes("session_note"), directive.Marketing()},
		Others: func(who access.Principal, _ string) access.Set { // whose notes are not one's own
			return storage.Members(db, &SessionNote{}, "ID", "author_id <> ?", who.ID)
		},
	}); err != nil {
		return nil, err
	}
	if c.desk, err = grant.New(desk(store, journal, policy)); err != nil {
		return nil, err
	}
	if c.point, err = pdp.New(pdp.Config{
		Policy:     policy,
		Relations:  c.relations,
		TenantWide: []access.Purpose{access.Payment, access.Operations}, // these reach patients whom nobody there cares for
		Directives: c.directives,
		Grants:     c.desk,
	}); err != nil {
		return nil, err
	}
	views, err := minimize.New(append(minimize.Starter().Rules(), minimize.Rule{ // how much of it they see
		Role: "registrar", Purposes: []access.Purpose{access.PatientAdmin}, View: minimize.Reveal, Right: minimize.Change, Classes: []minimize.Class{minimize.Name},
	}))
	if err != nil {
		return nil, err
	}
	plugin, err := storage.New(storage.Config{
		Development: true, // not in production: see the Config's documentation
		KEK:         kek, Audit: journal, Access: c.point, Minimize: views,
		Holds: []storage.Hold{c.directives}, // what must not be destroyed
	})
	if err != nil {
		return nil, err
	}
	if err := db.Use(plugin); err != nil {
		return nil, err
	}
	return c, storage.Migrate(ctx, db, &Patient{}, &SessionNote{}, &Shift{})
}

// onShift are the patients whom a nurse has tonight.
func onShift(db *gorm.DB) func(access.Principal, access.Purpose, time.Time) access.Set {
	return func(who access.Principal, _ access.Purpose, now time.Time) access.Set {
		return storage.Members(db, &Shift{}, "PatientID", "nurse_id = ? AND ends > ?", who.ID, now)
	}
}

// desk is who may get rights for a time.
func desk(store *accessstore.Store, journal *audit.Journal, policy decider) grant.Config {
	return grant.Config{
		Store: store.Grants(),
		Audit: journal,
		Roles: policy.Roles, // that somebody has by the policy, and not by a grant
		Elevations: []grant.Elevation{{
			Role: "release", Requesters: []string{"records-clerk"}, Approvers: []string{"privacy-officer"},
			MaxTTL: 8 * time.Hour, Purposes: []access.Purpose{access.Operations},
		}},
		Emergency: &grant.Emergency{Roles: []string{"physician", "nurse"}, Reviewers: []string{"privacy-officer"}},
		Confirm: func(_ context.Context, p access.Principal, secret string) error { // the password once more
			if secret != "the password of "+p.ID {
				return errors.New("wrong password")
			}
			return nil
		},
		Alert: func(_ context.Context, a grant.Alert) error { // tell the officer
			log.Printf("glass broken: grant %s, %s", a.Grant.ID, a.Grant.Reason)
			return nil
		},
	}
}

// newClinic opens a clinic for one example, and returns what closes it.
func newClinic() (*clinic, func()) {
	dir := must(os.MkdirTemp("", "clinic"))
	journal := must(audit.Open(filepath.Join(dir, "audit"), audit.Config{Development: true}))
	engine := must(rbac.New(rbac.Config{Model: text("policy/model.conf"), Policy: text("policy/policy.csv") + text("policy/users.csv"), Assigned: true}))
	c := must(open(dir, journal, func(*accessstore.Store) (decider, error) { return engine, nil }))
	return c, func() {
		if err := errors.Join(c.close(), os.RemoveAll(dir)); err != nil {
			log.Panic(err)
		}
	}
}

func (c *clinic) close() error { return errors.Join(storage.Close(c.db), c.journal.Close()) }

// as returns the context of a request by one of the clinic's people. The policy
// knows the roles.
func (c *clinic) as(user string, purpose access.Purpose) context.Context {
	return access.With(context.Background(), access.Principal{
		ID: user, Tenant: "elm-street", Kind: access.Human,
		Session: "s-" + user, Assurance: 2, AuthTime: time.Now(), // both factors, just now
	}, purpose)
}

// admit makes the record of a patient.
func (c *clinic) admit(name string) *Patient {
	p := &Patient{Name: storage.Seal(name)}
	if err := c.db.WithContext(c.as("u-rita", access.PatientAdmin)).Create(p).Error; err != nil {
		log.Panic(err)
	}
	return p
}

// names lists the patients in reach.
func (c *clinic) names(ctx context.Context) (out []string, err error) {
	var all []Patient
	if err := c.db.WithContext(ctx).Order("id").Find(&all).Error; err != nil {
		return nil, err
	}
	err = storage.Reveal(ctx, all)
	for _, p := range all {
		out = append(out, p.Name.Text(ctx))
	}
	return out, err
}
