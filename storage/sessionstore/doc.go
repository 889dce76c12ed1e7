// SPDX-License-Identifier: Apache-2.0

// Package sessionstore keeps the users and sessions of package session in a
// database, through GORM: SQLite, PostgreSQL or MariaDB. Any number of nodes
// may share it.
//
//	if err := sessionstore.Migrate(ctx, db); err != nil { ... }
//	sessions, err := session.New(session.Config{Store: sessionstore.New(db), ...})
//
// Its tables (session_users, session_pending, session_sessions and
// session_throttle) hold no patient data: password hashes, sealed TOTP
// secrets, and hashes of tokens. session_users holds what people type to sign
// in. On SQLite open the file with a busy timeout and _txlock=immediate, as
// storage/sqlite does.
package sessionstore
