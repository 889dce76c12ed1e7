// SPDX-License-Identifier: Apache-2.0

// Package httpaccess guards HTTP routes: each names what is done to which kind
// of resource and for which purposes of use, and what no route names is denied
// (45 CFR 164.312(a)(1)).
//
// Session's middleware puts the principal into the request's context; a
// [Guard] adds the purpose, asks the [access.Authorizer], and ends the scope
// when the handler returns:
//
//	mux := guard.Mux()
//	mux.Public("GET /signin", signIn)
//	mux.Handle("GET /patients/{id}", chart, access.Read, "patient", access.Treatment, access.Payment)
//	http.ListenAndServe(addr, sessions.Middleware(mux))
//
// A [Mux] serves only what was given a rule or named public. With a router of
// your own, wrap each route in [Guard.Require], whose middleware is a plain
// func(http.Handler) http.Handler.
//
// # Purpose of use
//
// The route says the purpose. Where it offers several, the request may choose
// one of them by a form value, a query value or a cookie, never by a header, and
// only one that the caller's roles are allowed; [Guard.Purposes] lists these
// for a picker. Without a choice it is the first that is allowed, in the
// route's order.
//
// # What a refusal tells
//
// Every refusal has the same status and body but for a random decision ID and,
// where the authorizer is an [access.Offerer], an offer in one word that depends on
// the route and the caller: it does not tell why, nor whether the record exists. The audit trail has the
// event of that ID, Config.Log the code of the refusal. A handler that finds no
// record, or that storage denies, answers with [Guard.Refuse], so that the two
// cannot be told apart. If the refusal cannot be recorded the answer is 503.
//
// # Paths and addresses
//
// A path that two readers could understand differently (encoded slashes and dots,
// dot segments, empty segments, backslashes, control characters, oversized names) is
// refused before it is routed. [ClientAddr] reads a caller's address from your own
// proxies.
//
// This package decides about the kind of resource. storage decides about each
// record.
package httpaccess
