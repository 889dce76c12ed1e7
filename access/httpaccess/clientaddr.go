// SPDX-License-Identifier: Apache-2.0

package httpaccess

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxHops bounds the proxies that a request is followed through.
const maxHops = 32

// ClientAddr returns a function that tells a caller's address, for
// session.Config.ClientAddr and machine.Config.Addr: that of the connection, or,
// where the connection is one of your own proxies, what they say in header. That is
// "X-Forwarded-For" or "Forwarded" (RFC 7239), whichever your proxies set; the other
// one is anybody's, and never read.
//
// The header is read from the right, as proxies append to it, up to the first
// address that is none of proxies. What stands left of that is the client's own
// word. IPv4 addresses in IPv6 form are taken for IPv4. Where there is an entry that
// is no address, such as "unknown", nobody can tell: the result is the zero Addr,
// which no address rule admits.
func ClientAddr(header string, proxies ...netip.Prefix) (func(*http.Request) netip.Addr, error) {
	header = http.CanonicalHeaderKey(header)
	if header != "X-Forwarded-For" && header != "Forwarded" {
		return nil, errors.New(`httpaccess: client address: header is neither "X-Forwarded-For" nor "Forwarded"`)
	}
	if len(proxies) == 0 {
		return nil, errors.New("httpaccess: client address: no proxy is named: leave ClientAddr nil, and it is the connection's")
	}
	for i, p := range proxies {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("httpaccess: client address: proxies[%d] is not a network in the form 10.1.2.0/24", i)
		}
		if p.Bits() == 0 {
			return nil, fmt.Errorf("httpaccess: client address: proxies[%d] is the whole internet: then anybody says where they are", i)
		}
	}
	proxies = slices.Clone(proxies)
	ours := func(a netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	entry := forwardedFor
	if header == "Forwarded" {
		entry = forwarded
	}
	return func(req *http.Request) netip.Addr {
		addr := hop(req.RemoteAddr)
		hops := strings.Split(strings.Join(req.Header.Values(header), ","), ",")
		for n := 0; addr.IsValid() && ours(addr) && len(hops) > 0; n++ {
			last := strings.TrimSpace(hops[len(hops)-1])
			if hops = hops[:len(hops)-1]; last == "" && len(hops) == 0 {
				break // no header: the proxy itself calls
			}
			if n == maxHops {
				return netip.Addr{}
			}
			addr = entry(last)
		}
		return addr
	}, nil
}

// hop parses an address, with a port or without; IPv6 in brackets where it has one.
func hop(s string) netip.Addr {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}
		}
		a = ap.Addr()
	}
	return a.Unmap().WithZone("")
}

func forwardedFor(s string) netip.Addr { return hop(s) }

// forwarded returns the address of an element of Forwarded: for="[2001:db8::1]:80".
// A comma inside quotes is not looked for: an address has none.
func forwarded(s string) netip.Addr {
	found := netip.Addr{}
	for _, pair := range strings.Split(s, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if !strings.EqualFold(name, "for") {
			continue
		}
		if found.IsValid() {
			return netip.Addr{} // twice
		}
		if q, ok := strings.CutPrefix(value, `"`); ok {
			if value, ok = strings.CutSuffix(q, `"`); !ok {
				return netip.Addr{}
			}
		}
		if found = hop(value); !found.IsValid() {
			return netip.Addr{}
		}
	}
	return found
}
