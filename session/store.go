// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/netip"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// An ID is the SHA-256 of what it stands for: a session token, the token of a
// pending sign-in, or the key of a throttle lane. Only IDs are stored.
type ID [sha256.Size]byte

// String returns the ID in hexadecimal, as stores keep it.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Ref returns a short public name of the ID for logs, audit events and
// [access.Principal.Session]. It gives no access.
func (id ID) Ref() string { return "s-" + hex.EncodeToString(id[:8]) }

// newToken returns a random bearer token of 32 bytes and its ID. NIST SP
// 800-63B asks for a session secret of at least 64 bits.
func newToken() (token string, id ID) {
	var b [32]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:]), hashToken(b)
}

// hashToken makes the ID. A plain hash will do: nobody guesses 256 bits.
func hashToken(b [32]byte) ID { return sha256.Sum256(b[:]) }

var errToken = errors.New("session: not a token")

// tokenID returns the ID of a token as it comes from a cookie.
func tokenID(token string) (ID, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != 32 {
		return ID{}, errToken
	}
	return hashToken([32]byte(b)), nil
}

// A User is one person who can sign in (unique user identification, 45 CFR
// 164.312(a)(2)(i)).
type User struct {
	ID       string      // opaque and never reused; see [access.CheckID]
	Tenant   string      // the covered entity that the user works for
	Kind     access.Kind // human, patient or proxy
	Login    string      // what the user types, in normal form; it may identify the person, so no event or log holds it
	Roles    []string
	Disabled bool
	Epoch    int64 // goes up by 1 when rights or password change; sessions of an earlier epoch are over
	Created  time.Time
}

// An Account is a [User] with what proves who it is. Only stores and Manager
// handle it.
type Account struct {
	User
	Password string // PHC string: $argon2id$... or $pbkdf2-sha256$...
	TOTP     []byte // the confirmed secret, sealed; empty where there is none
	TOTPNext []byte // a secret that waits for its first code, sealed
	TOTPStep int64  // the newest time step used with TOTP
}

// A Change alters a user. Every change, the empty one too, raises the epoch
// and ends what the user has open. A nil field stays as it is.
type Change struct {
	Password *string // PHC string
	Roles    *[]string
	Disabled *bool
}

// A Pending is a sign-in between its factors. It carries no rights.
type Pending struct {
	ID      ID
	Tenant  string
	UserID  string
	Epoch   int64 // the user's at the time of the password
	Tries   int   // codes tried, the current one included
	Expires time.Time
}

// A Session is one signed-in browser or device.
type Session struct {
	ID        ID
	Tenant    string
	UserID    string
	Kind      access.Kind   // the user's
	Epoch     int64         // live only while it equals the user's
	Assurance int           // NIST SP 800-63B level: 1 password, 2 password and code
	AuthTime  time.Time     // when the last factor was verified
	Created   time.Time     //
	LastSeen  time.Time     // last touch; see [Manager.Authenticate] on its precision
	Idle      time.Duration // over at LastSeen + Idle
	Expires   time.Time     // over at this time whatever happens
	Addr      netip.Addr    // where it was opened from
	Ended     time.Time     // zero while live
	Reason    audit.Reason  // why it ended
}

// over says whether a session of u is over at a time, and why. It is the one
// definition of the limits; stores repeat it in Touch and Sweep.
func (s Session) over(u User, at time.Time) (audit.Reason, bool) {
	switch {
	case !s.Ended.IsZero():
		return s.Reason, true
	case u.Disabled || u.Epoch != s.Epoch:
		return audit.ReasonRevoked, true
	case !at.Before(s.Expires):
		return audit.ReasonAbsolute, true
	case at.Sub(s.LastSeen) >= s.Idle:
		return audit.ReasonIdle, true
	}
	return audit.ReasonNone, false
}

// A Rate is the limit of a throttle lane: Burst tries at once, then one each
// Every (the generic cell rate algorithm, as in ITU-T I.371).
type Rate struct {
	Burst int
	Every time.Duration
}

// A Refusal is what a throttle lane refused, for one aggregated event.
type Refusal struct {
	Tenant string
	UserID string      // empty where the lane is not an account's
	Kind   access.Kind // the user's
	Addr   netip.Addr  // of the last refused caller
	Count  int
}

// Due is what [Store.Sweep] hands over to be recorded.
type Due struct {
	Sessions []Session // ended, and no event recorded yet
	Pending  []Pending // expired, and now gone
	Refusals []Refusal
}

// A Store keeps users, sign-ins, sessions and throttle lanes. Each method is
// one atomic step, so that any number of nodes may share a Store; there is
// deliberately no method that writes back a whole session, because that is how
// a slow request brings a logged-out session back to life.
//
// Times are those of the caller. Implementations are safe for concurrent use
// and keep times to the nanosecond. The conformance suite is
// sessiontest.TestStore.
type Store interface {
	// CreateAccount inserts a. It gives [ErrExists] when the ID, or the login
	// within the tenant, is taken. There is no method that deletes one.
	CreateAccount(ctx context.Context, a Account) error

	// AccountByLogin and Account give [ErrNotFound] where there is none.
	AccountByLogin(ctx context.Context, tenant, login string) (Account, error)
	Account(ctx context.Context, tenant, userID string) (Account, error)

	// ChangeAccount makes the change, raises the epoch, removes the user's
	// pending sign-ins, and ends the live sessions with [audit.ReasonRevoked],
	// in one transaction. It returns the sessions that it ended; each is owed
	// an event until [Store.Settle].
	ChangeAccount(ctx context.Context, tenant, userID string, ch Change, at time.Time) ([]Session, error)

	// OfferTOTP keeps a sealed secret that waits for confirmation, in place of
	// an earlier one. The confirmed secret stays in force.
	OfferTOTP(ctx context.Context, tenant, userID string, cell []byte) error

	// ConfirmTOTP makes cell the confirmed secret with step as its newest used
	// step, if cell is still the one that waits; else it reports false.
	ConfirmTOTP(ctx context.Context, tenant, userID string, cell []byte, step int64) (bool, error)

	// UseTOTPStep sets the newest used step if cell is still the confirmed
	// secret and step is newer: of any number of callers with one step exactly
	// one gets true.
	UseTOTPStep(ctx context.Context, tenant, userID string, cell []byte, step int64) (bool, error)

	// CreatePending inserts p.
	CreatePending(ctx context.Context, p Pending) error

	// TryPending adds 1 to Tries and returns the row, if it is there, has not
	// expired at that time, and had fewer than limit tries; else it gives
	// [ErrNotFound].
	TryPending(ctx context.Context, id ID, limit int, at time.Time) (Pending, error)

	// TakePending removes the row. Exactly one caller gets true.
	TakePending(ctx context.Context, id ID) (bool, error)

	// CreateSession inserts s if the user is there, is not disabled, and has
	// the epoch of s; else it gives [ErrStale].
	CreateSession(ctx context.Context, s Session) error

	// Session returns a session, live or ended, and its user, or [ErrNotFound].
	Session(ctx context.Context, id ID) (Session, User, error)

	// Touch moves LastSeen forward to at, if the session is there, has not
	// ended, and is within both limits at that time. It reports whether such a
	// session is there; it never creates one.
	Touch(ctx context.Context, id ID, at time.Time) (bool, error)

	// End ends a session that has not ended. Exactly one caller gets true, and
	// the session is owed an event until Settle.
	End(ctx context.Context, id ID, at time.Time, reason audit.Reason) (bool, error)

	// Settle notes that the end of a session has been recorded.
	Settle(ctx context.Context, id ID) error

	// Reserve takes one try from a lane. It returns 0 when it got one, else
	// how long to wait for the next. Of concurrent callers no more than
	// r.Burst get one.
	Reserve(ctx context.Context, lane ID, r Rate, at time.Time) (wait time.Duration, err error)

	// Refund gives back one try that Reserve took.
	Refund(ctx context.Context, lane ID, r Rate) error

	// Refuse counts a refusal of a lane. It returns 0, or how many refusals
	// the caller must record now: the first, and later at most one sum a
	// minute. who.Count is ignored.
	Refuse(ctx context.Context, lane ID, who Refusal, at time.Time) (count int, err error)

	// Sweep ends sessions that are over by their limits, removes pending
	// sign-ins that have expired and lanes that have nothing to say, and
	// returns what is to be recorded: at most about limit of each. Sessions
	// that ended before the last minute and were not settled are handed out
	// again, to one caller a minute. Sessions settled for more than a day are
	// removed. What is returned beside an error is to be recorded, too.
	Sweep(ctx context.Context, at time.Time, limit int) (Due, error)
}
