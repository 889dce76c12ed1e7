// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
)

// Cookie names. The __Host- prefix makes browsers insist on Secure, on the
// whole host, and on no other host setting it (RFC 6265bis); the development
// names are different so that neither is ever taken for the other.
func (m *Manager) sessionCookie() string { return m.cookieName("session") }
func (m *Manager) pendingCookie() string { return m.cookieName("signin") }

func (m *Manager) cookieName(s string) string {
	if m.development {
		return "development-" + s
	}
	return "__Host-" + s
}

// cookie makes a cookie that lasts until the browser closes; an empty value
// deletes it.
func (m *Manager) cookie(name, value string) *http.Cookie {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: !m.development, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

func (m *Manager) token(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// connAddr is the address at the other end of the connection.
func connAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// check refuses requests from other origins and, in development mode, from
// other machines.
func (m *Manager) check(r *http.Request) error {
	if m.development && !connAddr(r).IsLoopback() {
		return fmt.Errorf("%w: development mode answers loopback addresses only: unset Config.Development and serve TLS", ErrRequest)
	}
	if err := m.origin.Check(r); err != nil {
		return fmt.Errorf("%w: another origin", ErrRequest)
	}
	return nil
}

func (m *Manager) checkPost(r *http.Request) error {
	if r.Method != http.MethodPost {
		return fmt.Errorf("%w: use POST", ErrRequest)
	}
	return m.check(r)
}

// passive is the request header by which a page that polls asks not to be
// counted as activity. A client can opt out of touching, never in.
const passive = "X-Session-Passive"

// Middleware puts the principal of the request's session into its context
// with [access.With] and no purpose: the route adds that, see
// httpaccess.Require. A request without a live session goes on without a
// principal, and every later check denies it. When the session cannot be
// looked up the answer is 503.
//
// It refuses unsafe requests from other origins ([http.CrossOriginProtection]),
// keeps answers to signed-in users out of caches, and answers GET on
// Config.StatusPath itself, so that asking does not touch the session. Never
// change anything on GET: other sites can send those.
func (m *Manager) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := m.check(r); err != nil {
			m.log.Warn("request refused", zap.Error(err))
			if m.development { // say what to do about it
				http.Error(w, err.Error(), StatusCode(err))
			} else {
				WriteError(w, err)
			}
			return
		}
		if r.URL.Path == m.statusPath {
			m.status(w, r)
			return
		}
		token := m.token(r, m.sessionCookie())
		if token == "" {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		ctx := r.Context()
		var p access.Principal
		var err error
		if r.Header.Get(passive) != "" {
			var s Session
			var u User
			if s, u, err = m.live(ctx, token); err == nil {
				s.Addr = m.clientAddr(r)
				p = m.principal(u, s)
			}
		} else {
			p, err = m.Authenticate(ctx, token, m.clientAddr(r))
		}
		switch {
		case errors.Is(err, ErrNoSession):
			// The cookie stays: to delete it in a late answer would delete the
			// one of a sign-in that came in between.
		case err != nil:
			m.log.Error("session not looked up", zap.Error(err))
			http.Error(w, "sign-in is unavailable, try again", http.StatusServiceUnavailable)
			return
		default:
			r = r.WithContext(access.With(ctx, p, ""))
		}
		next.ServeHTTP(w, r)
	})
}

// Status is what GET on Config.StatusPath answers, in JSON. Times are in
// seconds and rounded down.
type Status struct {
	SignedIn     bool  `json:"signed_in"`
	IdleLeft     int64 `json:"idle_left"`     // until automatic logoff
	AbsoluteLeft int64 `json:"absolute_left"` // until the overall limit
}

func (m *Manager) status(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	var st Status
	s, err := m.Peek(r.Context(), m.token(r, m.sessionCookie()))
	switch {
	case err == nil:
		now := m.now()
		st = Status{
			SignedIn:     true,
			IdleLeft:     int64(s.LastSeen.Add(s.Idle).Sub(now) / time.Second),
			AbsoluteLeft: int64(s.Expires.Sub(now) / time.Second),
		}
	case !errors.Is(err, ErrNoSession):
		m.log.Error("session not looked up", zap.Error(err))
		http.Error(w, "sign-in is unavailable, try again", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(st)
}

// PostPassword is [Manager.Password] for a handler of POST: it sets the cookie
// for what comes next. On [StepTOTP] ask for a code, on [StepDone] the user is
// signed in. Write nothing to w before it; on an error use [WriteError] or
// [StatusCode].
func (m *Manager) PostPassword(w http.ResponseWriter, r *http.Request, tenant, login, password string) (Step, error) {
	if err := m.checkPost(r); err != nil {
		return "", err
	}
	in, err := m.Password(r.Context(), Attempt{Tenant: tenant, Login: login, Password: password, Addr: m.clientAddr(r)})
	if err != nil {
		return "", err
	}
	if in.Next == StepTOTP {
		http.SetCookie(w, m.cookie(m.pendingCookie(), in.Token))
		return in.Next, nil
	}
	return in.Next, m.signedIn(w, r, in.Token)
}

// PostTOTP is [Manager.TOTP] for a handler of POST: it reads the cookie of
// [Manager.PostPassword] and replaces it with the session's. On [ErrSignIn]
// ask for the code again, on [ErrPending] for the password.
func (m *Manager) PostTOTP(w http.ResponseWriter, r *http.Request, code string) error {
	if err := m.checkPost(r); err != nil {
		return err
	}
	in, err := m.TOTP(r.Context(), m.token(r, m.pendingCookie()), code, m.clientAddr(r))
	if errors.Is(err, ErrPending) {
		http.SetCookie(w, m.cookie(m.pendingCookie(), ""))
	}
	if err != nil {
		return err
	}
	http.SetCookie(w, m.cookie(m.pendingCookie(), ""))
	return m.signedIn(w, r, in.Token)
}

// signedIn hands out the token of a new session and ends the one that the
// browser had, which might be somebody else's.
func (m *Manager) signedIn(w http.ResponseWriter, r *http.Request, token string) error {
	if err := m.Logout(r.Context(), m.token(r, m.sessionCookie())); err != nil {
		return errors.Join(err, m.Logout(r.Context(), token))
	}
	w.Header().Set("Cache-Control", "no-store")
	http.SetCookie(w, m.cookie(m.sessionCookie(), token))
	return nil
}

// PostLogout ends the session of a request by POST and deletes its cookies. It
// is no error when there is none.
func (m *Manager) PostLogout(w http.ResponseWriter, r *http.Request) error {
	if err := m.checkPost(r); err != nil {
		return err
	}
	if err := m.Logout(r.Context(), m.token(r, m.sessionCookie())); err != nil {
		return err
	}
	http.SetCookie(w, m.cookie(m.sessionCookie(), ""))
	http.SetCookie(w, m.cookie(m.pendingCookie(), ""))
	w.Header().Set("Cache-Control", "no-store")
	return nil
}

// WriteError answers with [StatusCode] and a constant text that tells apart no
// more than the status does.
func WriteError(w http.ResponseWriter, err error) {
	var locked *LockedError
	if errors.As(err, &locked) {
		w.Header().Set("Retry-After", strconv.FormatInt(locked.seconds(), 10))
	}
	code := StatusCode(err)
	http.Error(w, Message(code), code)
}

// Message returns a constant sentence for the user that goes with a status of
// [StatusCode].
func Message(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "Sign-in refused. Check what you typed and try again."
	case http.StatusTooManyRequests:
		return "Too many tries. Wait a little and try again."
	case http.StatusServiceUnavailable:
		return "Sign-in is busy or unavailable. Try again shortly."
	case http.StatusForbidden:
		return "This request is not allowed."
	}
	return "Something went wrong. Try again, or call for help."
}
