// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/duty"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/session"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/policystore"
	"github.com/part164/part164/storage/sessionstore"
)

// openDatabase opens the database and, over it, what decides who may do what.
// The relations and grants that decisions ask for stand beside the records, on
// the same connections: they are part of each statement's SQL. So GORM is opened
// first, and storage is installed in it once there is something to ask.
func (a *app) openDatabase(ctx context.Context, p parts) error {
	conn, err := gorm.Open(a.database, &gorm.Config{Logger: logger.Discard, NowFunc: func() time.Time { return time.Now().UTC() }})
	if err != nil {
		return fmt.Errorf("clinic: database: %w", err)
	}
	store := accessstore.New(conn)
	if a.point, err = a.decide(store, sessionstore.New(conn), p.tenantWide); err != nil {
		return err
	}
	plugin, err := storage.New(storage.Config{
		KEK: a.kek, Audit: a.trail, Access: a.point, Minimize: a.minimum,
		Development: a.development, Deviations: a.deviations, Holds: []storage.Hold{a.directives},
	})
	if err != nil {
		return err
	}
	if err := conn.Use(plugin); err != nil {
		return err
	}
	a.db = conn
	if err := storage.Migrate(ctx, a.db, models()...); err != nil {
		return err
	}
	for _, migrate := range []func(context.Context, *gorm.DB) error{accessstore.Migrate, policystore.Migrate, sessionstore.Migrate} {
		if err := migrate(ctx, a.db); err != nil {
			return err
		}
	}
	if err := a.policy.Open(ctx, a.db); err != nil {
		return err
	}
	// The first start of a database writes the policy. From then on it is changed
	// there (policystore.Store.Propose and Approve), for every node.
	job, end := access.Job(ctx, access.Principal{ID: "deployment", Tenant: tenant, Kind: access.Service}, access.SystemAdmin)
	defer end()
	_, err = a.policy.Init(job, policystore.Rows{Rules: p.access}, "first-policy")
	return err
}

// decide puts the decision point together: the policy in the database, who cares
// for whom, what patients restrict, and who has broken the glass.
func (a *app) decide(store *accessstore.Store, sessions *sessionstore.Store, tenantWide []access.Purpose) (*pdp.Point, error) {
	var err error
	a.policy, err = policystore.New(policystore.Config{
		Audit: a.trail, Operator: tenant, Deviations: a.deviations,
		PrincipalRoles: true, // the sign-in knows who has which role
		Holders:        []policystore.Holder{sessions, store},
		Elevated: func(ctx context.Context, tenant, user string) ([]string, error) {
			return a.desk.Elevated(ctx, tenant, user)
		},
	})
	if err != nil {
		return nil, err
	}
	if a.relations, err = relation.New(relation.Config{Store: store.Relations(), Access: a.policy, Audit: a.trail}); err != nil {
		return nil, err
	}
	if a.directives, err = directive.New(directive.Config{Store: store.Directives(), Access: a.policy, Audit: a.trail}); err != nil {
		return nil, err
	}
	a.grants = store.Grants()
	a.desk, err = grant.New(grant.Config{
		Store: a.grants, Audit: a.trail, Roles: a.rolesNow, Alert: a.tell, Elevations: elevations(),
		Emergency: &grant.Emergency{Roles: []string{"physician", "nurse"}, Reviewers: []string{"privacy-officer"}, TTL: glassTTL, ReviewWithin: glassReview},
		Confirm: func(ctx context.Context, p access.Principal, password string) error {
			return a.sessions.Confirm(ctx, p, password)
		},
	})
	if err != nil {
		return nil, err
	}
	// Who reviews what clinicians did is no clinician in the same session.
	duties, err := duty.New(duty.Config{Sessions: []duty.Exclusion{
		{Name: "nurse_officer", Roles: []string{"nurse", "privacy-officer"}},
		{Name: "physician_officer", Roles: []string{"physician", "privacy-officer"}},
	}})
	if err != nil {
		return nil, err
	}
	return pdp.New(pdp.Config{
		Policy: a.policy, Relations: a.relations, Directives: a.directives, Duties: duties, Grants: a.desk,
		TenantWide: tenantWide,
	})
}

// rolesNow are the roles that somebody acts in and has by their account, where the
// sign-in knows who has which: those of a session may be older, and so are those of
// who approved. Who names no role acts in all.
func (a *app) rolesNow(ctx context.Context, p access.Principal) ([]string, error) {
	u, err := a.sessions.User(ctx, p.Tenant, p.ID)
	if errors.Is(err, session.ErrNotFound) || u.Disabled {
		return nil, nil
	}
	if len(p.Roles) > 0 {
		u.Roles = slices.DeleteFunc(slices.Clone(u.Roles), func(role string) bool { return !slices.Contains(p.Roles, role) })
	}
	return u.Roles, err
}

// newGuard stands before the routes, and asks the decision point.
func (a *app) newGuard() (*httpaccess.Guard, error) {
	return httpaccess.New(httpaccess.Config{
		Authorizer: a.point, Audit: a.trail, SignIn: "/signin", Page: a.refusedPage,
		Offers: map[access.Offer]string{access.OfferBreakGlass: "/patients/{id}/emergency", access.OfferGrant: "/rights"},
	})
}

// tenantWide are the purposes of those whose work is about everybody's patients.
// Searching is one of operations: see accessRules.
func tenantWide() []access.Purpose { return []access.Purpose{access.Payment, access.Operations} }

// accessRules are the starter's, and those of this app.
func accessRules() []rbac.Rule {
	look := []access.Action{access.Read, access.Search}
	return append(rbac.StarterRules(),
		// Anybody at the desk finds and registers patients; a chart is opened by
		// those who care for the patient.
		rbac.Rule{Role: "physician", Resources: []string{"patient"}, Actions: append(look, access.Create), Purposes: []access.Purpose{access.PatientAdmin}},
		rbac.Rule{Role: "nurse", Resources: []string{"patient"}, Actions: look, Purposes: []access.Purpose{access.PatientAdmin}},
		rbac.Rule{Role: "registration", Resources: []string{"patient"}, Actions: []access.Action{access.Create}, Purposes: []access.Purpose{access.PatientAdmin}}, // for a time: see elevations
		rbac.Rule{Role: "physician", Resources: []string{"relation"}, Actions: []access.Action{access.Read, access.Create, access.Update}, Purposes: []access.Purpose{access.Treatment}},
		rbac.Rule{Role: "nurse", Resources: []string{"relation"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}},

		// Who may come to the desk for rights for a time, and end emergency access: what
		// they may do there, the desk says (elevations).
		rbac.Rule{Role: "nurse", Resources: []string{"grant"}, Actions: []access.Action{access.Read, access.Create, access.Update}, Purposes: []access.Purpose{access.Operations}},
		rbac.Rule{Role: "physician", Resources: []string{"grant"}, Actions: []access.Action{access.Read, access.Review, access.Update}, Purposes: []access.Purpose{access.Operations}},
		rbac.Rule{Role: "privacy-officer", Resources: []string{"grant"}, Actions: []access.Action{access.Read, access.Review, access.Update}, Purposes: []access.Purpose{access.Operations}},

		// Running the system is no reason to see a record. Cutting off who leaves is
		// a change of the policy.
		rbac.Rule{Role: "admin", Resources: []string{policystore.Resource}, Actions: []access.Action{access.Update}, Purposes: []access.Purpose{access.SystemAdmin}},

		// What was agreed with a patient is the officer's to write down.
		rbac.Rule{Role: "privacy-officer", Resources: []string{directive.Resource}, Actions: []access.Action{access.Read, access.Create, access.Update}, Purposes: []access.Purpose{access.Compliance}},

		// Patients read who saw their record: package pdp keeps them to their own.
		rbac.Rule{Role: "patient", Resources: []string{"audit"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.PatientRequest}},

		// The importer files records, says who cares for their patients, and reads
		// nothing.
		rbac.Rule{Role: "importer", Resources: append([]string{"relation"}, chart...),
			Actions:  []access.Action{access.Read, access.Search, access.Create},
			Purposes: []access.Purpose{access.RecordManagement}},
	)
}
