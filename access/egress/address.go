// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// A Resolver looks up the addresses of a host; network is "ip". [*net.Resolver]
// is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// special are the networks of the IANA special-purpose address registries (RFC
// 6890) that are not reachable from everywhere or lead into other addresses, as
// far as netip does not tell.
var special = []string{
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
}

// public reports whether an address is one of the public internet.
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, s := range special {
		if p, err := netip.ParsePrefix(s); err != nil || p.Contains(a) {
			return false
		}
	}
	return true
}

// errAddress means that a name leads where its recipient is not.
var errAddress = errors.New("the recipient's name has an address that is neither public nor in Recipient.Networks")

// admits reports whether PHI for r may go to an address. In development it may go
// to this machine.
func (r *Recipient) admits(a netip.Addr, development bool) bool {
	if development && a.IsLoopback() {
		return true
	}
	if len(r.Networks) > 0 {
		return slices.ContainsFunc(r.Networks, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return public(a)
}

// dial connects to a name at one of its addresses, all of which r must admit: the
// name is looked up once, and what was looked up is what is dialled.
func (t *Transport) dial(ctx context.Context, r *Recipient, address string, plain bool) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	found, err := t.cfg.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up the recipient's name: %w", err)
	}
	if len(found) == 0 {
		return nil, errors.New("the recipient's name has no address")
	}
	for i, a := range found {
		a = a.Unmap()
		if found[i] = a; a.Zone() != "" || !r.admits(a, t.cfg.Development) || plain && !a.IsLoopback() {
			return nil, errAddress
		}
	}
	var failed error
	for i, a := range found {
		var dialer net.Dialer // whose time is shared out, so that one address which is silent leaves some to the next
		if end, ok := ctx.Deadline(); ok {
			dialer.Timeout = max(time.Until(end)/time.Duration(len(found)-i), time.Millisecond)
		}
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}
