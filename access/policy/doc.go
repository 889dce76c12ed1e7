// SPDX-License-Identifier: Apache-2.0

// Package policy compiles a Casbin model and its rows into an immutable index,
// which answers as Casbin does, as fast for 100,000 users as for 100.
//
// Casbin stays the language: its own parsers read the model, and a model that
// cannot be compiled is evaluated by Casbin itself; [Policy.Plan] says which it
// is and why. Where a matcher is a chain of && whose terms compare a field of
// the request with a field of the row, the rows become an index by those
// fields, role links become a closure for each user, and the other terms are
// tried on the few rows that are left.
//
// # Failing closed
//
// Casbin allows in several cases where a safeguard must not: an effect that
// allows by default, a term that is true whatever the rows say, a policy
// without rows, a user named like a role, a pattern that matches more than it
// seems to. [Compile] refuses models and rows in which that could happen, in a
// [RefusedError] that names each with its mend; [Policy.Decide] denies the
// requests. [Config.AsCasbin] turns both off, to hold the index against Casbin:
// with it every answer is Casbin's.
//
// Package rbac, the authoriser of this SDK, admits one form of model only and
// decides by this package. Use this one for a Casbin policy of another form.
package policy
