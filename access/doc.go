// SPDX-License-Identifier: Apache-2.0

// Package access says who asks, why, and whether they may: principals,
// purposes of use, the decision interface and the request scope (45 CFR
// 164.312(a)(1), 164.312(a)(2)(i), 164.308(a)(4)).
//
// A sign-in puts a [Principal] into a context with [With]; a route or a job
// adds the [Purpose]. Together they are a [Scope]: the right to see what was
// revealed under it ends when the scope ends. Every other package asks an
// [Authorizer] before it acts, and treats an error as a refusal.
//
// # Failing closed
//
// The zero Principal, the zero Purpose, the zero [Decision] and the zero
// [Filter] all deny. A bad principal does not panic: [With] returns a context
// in which everything is denied with the reason.
//
// This package decides nothing by itself and imports the standard library
// only. access/rbac decides with Casbin's policy language, and access/pdp asks
// that, relations, what patients said, separation of duties and grants.
package access
