// SPDX-License-Identifier: Apache-2.0

// Package policystore keeps the access policy in a database: rules, role links,
// the roles of users, one revision, and who changed what and why. Any number of
// processes share it on PostgreSQL, MariaDB or SQLite.
//
//	policy, err := policystore.New(policystore.Config{Audit: journal, Operator: "clinic-7"})
//	db, err := storage.Open(dialector, storage.Config{Access: policy, Audit: journal, ...})
//	err = storage.Migrate(ctx, db, &Patient{})
//	err = policystore.Migrate(ctx, db)
//	err = policy.Open(ctx, db)
//	_, err = policy.Init(job, policystore.Rows{Rules: rbac.StarterRules(), ...}, "deploy-1")
//
// # Deciding
//
// A [Store] is an access.Authorizer. It decides by a compiled copy of the
// policy, reads the revision each Config.Poll, and puts another policy in force
// when that has changed: by the changes where they are few. A policy that does
// not load, or that nobody here has written, never replaces one that works.
// Without a successful poll for Config.MaxStale it denies with access.DenyStale;
// emergency access (BTG, ETREAT) goes on by the last policy. A database without
// a policy, and a store without a database, deny everything.
//
// # Changing
//
// [Store.Propose] and [Store.Approve], by two people; [Store.Apply] for what
// only takes rights away; [Store.Terminate] for who leaves. A change is one
// transaction: the revision row is locked, the policy as it would be is
// compiled, and rules, revision, history and the audit outbox are written
// together (45 CFR 164.308(a)(4)(ii)(B) and (C)).
//
// # What somebody else writes
//
// The revision row has a MAC over the digest of the rows, under a key that the
// KEK wraps, and each change has the digest of the one before it. A row that is
// edited by SQL is not put in force: a running process does not read it, and one
// that starts refuses the policy with [ErrForged]. [Store.Verify] names the row,
// and holds the history against the audit trail.
//
// What this does not see: who puts back an older copy of all the tables. A
// running process refuses it ([ErrSetBack]), and Verify finds it by the trail; a
// process that only starts has nothing to tell it by. Nor does it see a rejected
// proposal that is put back as a copy from before; that still takes somebody to
// approve it.
package policystore
