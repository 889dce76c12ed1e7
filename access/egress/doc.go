// SPDX-License-Identifier: Apache-2.0

// Package egress sends PHI to recipients that are registered, and to nobody
// else (45 CFR 164.502(a), 164.506, 164.508, 164.512, 164.514).
//
//	transport, err := egress.New(egress.Config{Recipients: recipients, Authorizer: authorizer, Audit: journal})
//	ctx = egress.Disclose(ctx, egress.Disclosure{
//		Recipient: "lab-acme",
//		Objects:   []audit.Object{{Type: "patient", Record: id, Patient: id, Fields: []string{"name", "dob"}}},
//	})
//	req, err := http.NewRequestWithContext(ctx, "POST", "https://orders.lab.example/v1", body)
//	resp, err := transport.Do(req)
//
// # No basis, no bytes
//
// A [Recipient] has a [Basis], and each basis asks for fields of its own: a
// business associate for the agreement, a public health authority for the law, an
// authorization for the patients that it is of. A request goes out when the
// scope of its context acts for a purpose that the recipient is registered for,
// every object is within the recipient's scope, the [access.Authorizer] allows
// [access.Disclose] on each, the connection stands, and the [audit.Disclosed]
// event is durable; in this order. Until then nothing of it is sent, and its
// body is not read. Whatever fails, refuses.
//
// The authorizer is asked of the recipient too ([access.Request], Recipient: the
// entry's ID, also where a subcontractor of it receives): package pdp denies by a
// patient's restriction towards it (164.522(a)), and wants the paper that names it
// where one is needed (164.508).
//
// What is disclosed is what the caller says in a [Disclosure]: this package
// cannot read bodies. It holds the caller to it: to the recipient's types,
// fields, patients, tenants, purposes and dates.
//
// # Where it goes
//
// Hosts are DNS names, reached over verified TLS at public addresses, or at those
// of Recipient.Networks: the name is looked up once for each request, every
// address must be allowed, and the connection is made to what was looked up, so
// that a name which changes its address meanwhile reaches nothing inside (DNS
// rebinding). Proxies of the environment are not used. A redirect is a request
// like any other, and is bound to the same recipient.
//
// Each request has a connection of its own, whose TLS session is resumed where the
// recipient lets it: an event then stands for bytes that were handed to that
// connection, and nothing is sent twice behind the caller's back. What a
// recipient answers is not looked at, and never logged.
//
// # What stays yours
//
// That the agreement is a good one, that the recipient is who the registry says
// (164.514(h)), and that the body holds what the Disclosure says. Error texts of
// [net/http.Client] quote the whole URL: use [Transport.Do], and keep PHI out of
// URLs.
package egress
