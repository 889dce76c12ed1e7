// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/part164/part164/audit"
)

// Errors that an app tells apart. None of them says whether a login exists.
var (
	// ErrSignIn refuses a factor: unknown login, wrong password, wrong or used
	// code, or an account that may not sign in. Ask again on the same page.
	ErrSignIn = errors.New("session: sign-in refused")

	// ErrPending means that no sign-in is under way: it took too long, it died
	// after too many wrong codes, or it is done. Start with the password.
	ErrPending = errors.New("session: no sign-in under way: start with the password")

	// ErrLocked is what every [LockedError] is.
	ErrLocked = errors.New("session: too many tries")

	// ErrBusy means that too many passwords are being checked at once. Nothing
	// was checked; try again.
	ErrBusy = errors.New("session: busy checking passwords: try again shortly")

	// ErrNoFactor refuses a user who has no confirmed second factor. It is
	// returned after the right password only.
	ErrNoFactor = errors.New("session: no second factor is set up: call BindTOTP and ConfirmTOTP for the user, or set Config.SingleFactor")

	// ErrFIPS refuses a SHA-1 one-time code in a FIPS-only process
	// (GODEBUG=fips140=only).
	ErrFIPS = errors.New("session: TOTP with SHA-1 is not allowed in a FIPS-only process: set Config.SHA256TOTP and bind the factor again")

	// ErrNoSession means that a token names no live session.
	ErrNoSession = errors.New("session: no live session: sign in")

	// ErrPassword refuses a new password; the text says which rule it breaks.
	ErrPassword = errors.New("session: password refused")

	// ErrExists means that a user ID or a login is taken, perhaps by a user
	// who is disabled: neither is ever given out again.
	ErrExists = errors.New("session: user ID or login is taken")

	// ErrNotFound means that there is no such row.
	ErrNotFound = errors.New("session: not found")

	// ErrStale means that the user's rights changed, or the user was disabled,
	// between the password and the session.
	ErrStale = errors.New("session: the user changed during sign-in")

	// ErrRequest refuses an HTTP request by its form: another method than
	// POST, another origin, or development mode reached from another machine.
	ErrRequest = errors.New("session: request refused")
)

// A LockedError says when a throttled lane opens again.
type LockedError struct {
	RetryAfter time.Duration
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%v: try again in %d s", ErrLocked, e.seconds())
}

// Is makes errors.Is(err, ErrLocked) true for every LockedError.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// seconds rounds up, for the Retry-After header.
func (e *LockedError) seconds() int64 { return int64((e.RetryAfter + time.Second - 1) / time.Second) }

// StatusCode returns the HTTP status that fits an error of this package: 401
// for a refused factor, 403, 429 and 503 where the error says so, and 500 for
// any other. It returns 200 for nil.
func StatusCode(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, ErrLocked):
		return http.StatusTooManyRequests
	case errors.Is(err, ErrBusy), errors.Is(err, audit.ErrUnavailable), errors.Is(err, audit.ErrClosed):
		return http.StatusServiceUnavailable
	case errors.Is(err, ErrSignIn), errors.Is(err, ErrPending), errors.Is(err, ErrNoSession), errors.Is(err, ErrStale):
		return http.StatusUnauthorized
	case errors.Is(err, ErrNoFactor), errors.Is(err, ErrFIPS), errors.Is(err, ErrRequest):
		return http.StatusForbidden
	case errors.Is(err, ErrPassword):
		return http.StatusUnprocessableEntity
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, ErrExists):
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}
