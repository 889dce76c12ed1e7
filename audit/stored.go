// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"time"

	"github.com/part164/part164/access"
)

// A Stored is an event as a trail keeps it. A journal holds the IDs of
// patients and records, and those of principals who are patients or proxies,
// as keyed pseudonyms ([Journal.Pseudonym]).
//
// An event with more than 1,024 objects takes several lines, each a Stored of
// its own with the same Batch.
type Stored struct {
	ID       string    // event ID, or that of the line where Part > 1
	Seq      uint64    // the line's sequence in its journal, from 0
	Time     time.Time // when the trail took it, UTC
	Type     Type
	Outcome  Outcome
	Reason   Reason
	Action   access.Action
	Code     access.Code
	Decision string
	Request  string // ID of the request that did it; empty where there was none
	Citation string
	Actor    access.Principal // the zero Principal where there was none
	Purpose  access.Purpose
	Count    int
	About    string
	Rule     string
	Grant    string
	Role     string
	User     string
	UserKind access.Kind
	Since    time.Time // UTC
	Until    time.Time // UTC
	Objects  []Object
	Root     string // RFC 6962 root, in base64url, of the journal that an Adopted took over, up to the line About
	Attempt  string // the attempt that a Committed or RolledBack settles
	Node     string // Config.Node, in an Opened
	Batch    string // event ID of the first line, where Parts > 1; else empty
	Part     int    // 1 to Parts; 0 where the event is one line
	Parts    int

	Disclosure *Disclosure  // nil where there is none
	Purge      *PurgeRecord // in a Purged
	Rotation   *Rotation    // in a JournalKeyRotated
	KeyVersion int          // of the key of the pseudonyms, from 1: a Journal brings them forward to its newest, Read leaves them
	Detail     string       // commitment to the sealed detail: base64url of SHA-256 of its salt and JSON; empty where there is none
}

// A Rotation says which public key a journal signed with until then, and which
// from then on: C2SP note verifier keys. The checkpoint behind it is signed
// with both.
type Rotation struct{ From, To string }

// A Query selects events. Its zero fields select everything, save Tenant,
// which is required: nobody reads across tenants.
type Query struct {
	Tenant     string    // events by or about this tenant; required
	Patient    string    // events about this patient, by record ID; Objects then holds this patient's only
	Pseudonyms []string  // or about any of these, as a patient stands in the trail: a merged record has several
	Actor      string    // events by this principal, by ID
	Types      []Type    // events of these types; those of the trail itself that name no tenant, such as Committed and Recovered, come only where they are named here
	Since      time.Time // not before
	Until      time.Time // before
	Limit      int       // at most so many; 0 means no limit
}
