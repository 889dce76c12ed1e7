// SPDX-License-Identifier: Apache-2.0

// Package machine authenticates programs: API keys ([Keys]) and client
// certificates ([Certificates]) become principals of kind [access.Service] (45
// CFR 164.312(a)(2)(i), 164.312(d)).
//
//	keys, err := machine.New(machine.Config{Store: machinestore.New(db), Audit: journal, Accounts: accounts})
//	key, token, err := keys.Issue(ctx, machine.NewKey{
//		Tenant: "t-1", Service: "svc-importer", Roles: []string{"importer"}, Purposes: []access.Purpose{access.Treatment},
//	})
//	handler := sessions.Middleware(keys.Middleware(mux))
//
// # API keys
//
// A token is part164_<id>_<secret><check>: a prefix that secret scanners find, the
// public ID of the key, 256 random bits, and a checksum, in lower-case base 32.
// Only the SHA-256 of the secret is stored. A key has a service, roles, purposes
// of use, networks, and an end; [Keys.Rotate] makes its successor, and lets both
// live for an overlap. A revocation is seen by the next request on every node,
// because each reads the key.
//
// A service is no person: a key or certificate whose ID is an account of a person
// is refused, by what Config.Accounts says. A person who wants a program to act
// for them gives it an identity of its own, so that the trail can tell them apart.
//
// # Client certificates
//
// A certificate is one of the pinned CA's, for client authentication, in time, and
// not revoked, by fingerprint or by issuer and serial. Its one URI (RFC 5280
// section 4.2.1.6) names the service. The middleware verifies by itself: the
// server asks for a certificate ([tls.VerifyClientCertIfGiven] or
// [tls.RequestClientCert]) and need not know the CA.
//
// The conformance suite of a [Store] is machinetest.TestStore.
package machine
