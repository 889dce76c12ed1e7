// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
)

// Middleware puts the service of a request's API key ("Authorization: Bearer", RFC
// 6750 section 2.1) into its context, without a purpose: the route adds that. A
// request without a key of ours goes on as it came. One with a bad key, with two
// Authorization headers, or with a key beside somebody who is signed in already,
// is answered with 401, and one whose key cannot be looked up with 503. Handlers
// do not see the token.
func (k *Keys) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		token, ok := k.bearer(req.Header)
		if !ok {
			next.ServeHTTP(w, req)
			return
		}
		p, err := access.Principal{}, ErrRefused
		if _, somebody := access.PrincipalFrom(req.Context()); !somebody && len(req.Header.Values("Authorization")) == 1 {
			p, err = k.Authenticate(req.Context(), token, k.cfg.Addr(req))
		}
		if err != nil {
			unauthenticated(w, k.cfg.Log, "Bearer", err)
			return
		}
		req = req.Clone(access.With(req.Context(), p, ""))
		req.Header.Del("Authorization")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, req)
	})
}

// bearer returns the first token of a request that looks like one of ours.
func (k *Keys) bearer(h http.Header) (token string, ok bool) {
	for _, v := range h.Values("Authorization") {
		scheme, rest, _ := strings.Cut(v, " ")
		rest = strings.TrimSpace(rest)
		if strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(rest, k.cfg.Prefix+"_") {
			return rest, true
		}
	}
	return "", false
}

// unauthenticated answers with a constant body.
func unauthenticated(w http.ResponseWriter, log *zap.Logger, scheme string, err error) {
	status, body := http.StatusUnauthorized, "signin"
	if !errors.Is(err, ErrRefused) {
		status, body = http.StatusServiceUnavailable, "unavailable"
		log.Error("machine: a caller could not be authenticated", zap.Error(err))
	} else if scheme != "" {
		w.Header().Set("WWW-Authenticate", scheme)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"error\":%q}\n", body)
}

// connAddr is the address at the other end of the connection.
func connAddr(req *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
