// SPDX-License-Identifier: Apache-2.0

// Package machinestore keeps the API keys and revocations of access/machine in a
// database, through GORM: SQLite, PostgreSQL or MariaDB. Any number of nodes may
// share it.
//
//	if err := machinestore.Migrate(ctx, db); err != nil { ... }
//	keys, err := machine.New(machine.Config{Store: machinestore.New(db), ...})
//
// Its tables (access_keys and access_revoked_certificates) hold no patient data and
// no secret: of a key its SHA-256.
package machinestore
