// SPDX-License-Identifier: Apache-2.0

package pdp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/part164/part164/access"
)

// Config configures a [Point]. Policy is required. What is left out is not
// asked, and is named by [Point.Deviations] where the SDK's design asks for it.
type Config struct {
	Policy Policy

	// Relations: without them each rule reaches every patient of the tenant.
	// TenantWide lists the purposes that do so beside them, with the kinds of
	// each: billing and operations reach patients whom nobody there cares for.
	Relations  Relations
	TenantWide []access.Purpose

	Directives Directives // what patients restrict and authorise; nil asks nobody
	Duties     Duties     // separation of duties; nil separates none
	Grants     Grants     // rights for a time; nil means none, so that emergency purposes are denied

	// Assurance is the least authenticator assurance level, NIST SP 800-63B, of
	// a person: 0 to 3; 0 asks for none.
	Assurance int

	Addresses []AddressRule                                         // from where; empty: from anywhere
	Posture   func(ctx context.Context, who access.Principal) error // whether the device is fit; an error denies; nil asks nothing

	Now func() time.Time // the clock; nil means time.Now
}

// An AddressRule says from where those whom it is about may ask. Somebody whom
// several rules are about has to meet each.
type AddressRule struct {
	Roles    []string       // about who holds one of them, or a role that includes it (Policy.Roles); empty: everybody
	Kinds    []access.Kind  // and is of one of these kinds; empty: of any
	Prefixes []netip.Prefix // the networks; empty denies
}

func (r AddressRule) about(who access.Principal) bool {
	held := func(role string) bool { return slices.Contains(who.Roles, role) }
	return (len(r.Roles) == 0 || slices.ContainsFunc(r.Roles, held)) && (len(r.Kinds) == 0 || slices.Contains(r.Kinds, who.Kind))
}

func (r AddressRule) met(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(r.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// A Point decides. It implements [access.Authorizer] and [access.Offerer], and
// is safe for concurrent use. The zero Point denies everything.
type Point struct {
	cfg    Config
	byRole bool // something beside the rules is asked by roles
}

// New returns a Point, or an error naming the first bad field of cfg.
func New(cfg Config) (*Point, error) {
	if cfg.Policy == nil {
		return nil, errors.New("pdp: Config.Policy is nil: take rbac.Starter() to begin with")
	}
	if cfg.Relations == nil && len(cfg.TenantWide) > 0 {
		return nil, errors.New("pdp: Config.TenantWide is set without Relations: every purpose reaches the whole tenant then")
	}
	for _, p := range cfg.TenantWide {
		if !p.Valid() {
			return nil, errors.New("pdp: Config.TenantWide has an unknown purpose: take the constants of package access")
		}
		if p.Emergency() {
			return nil, fmt.Errorf("pdp: Config.TenantWide has %s: emergency access is for one patient, whom its grant names", p)
		}
	}
	if cfg.Assurance < 0 || cfg.Assurance > 3 {
		return nil, errors.New("pdp: Config.Assurance is not 0 to 3")
	}
	cfg.TenantWide = slices.Clone(cfg.TenantWide)
	cfg.Addresses = slices.Clone(cfg.Addresses)
	for i, r := range cfg.Addresses {
		if len(r.Prefixes) == 0 {
			return nil, fmt.Errorf("pdp: Config.Addresses[%d].Prefixes is empty: nobody could sign in from there", i)
		}
		r.Prefixes = slices.Clone(r.Prefixes)
		for j, p := range r.Prefixes {
			if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
				return nil, fmt.Errorf("pdp: Config.Addresses[%d].Prefixes[%d] is not a network: give it as netip.MustParsePrefix(\"192.0.2.0/24\")", i, j)
			}
		}
		for _, k := range r.Kinds {
			if !slices.Contains([]access.Kind{access.Human, access.Service, access.Patient, access.Proxy}, k) {
				return nil, fmt.Errorf("pdp: Config.Addresses[%d].Kinds has an unknown kind", i)
			}
		}
		for _, role := range r.Roles {
			if err := access.CheckID(role); err != nil {
				return nil, fmt.Errorf("pdp: Config.Addresses[%d].Roles: a role %w", i, err)
			}
		}
		cfg.Addresses[i] = r
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	byRole := cfg.Directives != nil || cfg.Duties != nil || cfg.Posture != nil ||
		slices.ContainsFunc(cfg.Addresses, func(r AddressRule) bool { return len(r.Roles) > 0 })
	return &Point{cfg, byRole}, nil
}
