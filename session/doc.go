// SPDX-License-Identifier: Apache-2.0

// Package session signs people in and ends their sessions: person
// authentication (45 CFR 164.312(d)), unique user identification
// (164.312(a)(2)(i)), automatic logoff (164.312(a)(2)(iii)) and log-in
// monitoring (164.308(a)(5)(ii)(C)).
//
// A [Manager] does both halves. The sign-in is a small machine whose state is
// on the server: [Manager.Password], then [Manager.TOTP], then a session. In
// HTTP handlers use [Manager.PostPassword], [Manager.PostTOTP] and
// [Manager.PostLogout], and wrap the app in [Manager.Middleware]:
//
//	sessions, err := session.New(session.Config{
//		Store:  sessionstore.New(db), // or session.NewMemory() for a trial
//		Audit:  journal,
//		Sealer: crypto.NewSealer(kek),
//		Issuer: "Elm Street Clinic",
//	})
//	go sessions.Run(ctx)
//	http.ListenAndServeTLS(addr, cert, key, sessions.Middleware(mux))
//
// # What holds
//
// Tokens are 32 random bytes, and only their SHA-256 is stored. Idle and
// absolute limits are decided on the server, on each request. A touch is a
// conditional update, so a slow request cannot bring a logged-out session back.
// A change of password or roles, and disabling, end all sessions of the user,
// by an epoch that each session must match. Each end is recorded once, with
// its reason (twice only if the process dies between the record and the note
// that it was made).
//
// A one-time code signs in once: the time step is used up by compare-and-set.
// Five wrong codes end the pending sign-in. Tries are taken from the throttle
// before anything is verified, and an unknown login costs the same work and
// gets the same answer as a wrong password.
//
// # What does not, yet
//
// Passwords are not compared with a list of common ones. The account lane of
// the throttle is one for all callers: somebody who keeps guessing can slow
// its owner down to the pace of the lane, and nothing counts failures up to
// the 100 after which NIST SP 800-63B has an authenticator disabled. There are
// no recovery codes, passkeys, step-up, or forced enrolment; each request
// reads the session from the store. Serve TLS in production: the cookies are
// Secure, but the package does not look at the connection.
//
// # FIPS
//
// In a process with GODEBUG=fips140=only new passwords are hashed with
// PBKDF2-HMAC-SHA256, stored argon2id hashes check as wrong passwords (the
// log says so), and one-time codes with SHA-1 give [ErrFIPS]: set
// Config.SHA256TOTP.
package session
