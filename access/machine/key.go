// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/access"
)

// A Key is an API key as it is stored: without its secret.
type Key struct {
	ID       string            // public, random; the principal's Session is "k-" and this
	Tenant   string            // the covered entity that it serves
	Service  string            // ID of the principal
	Hash     [sha256.Size]byte // SHA-256 of the secret
	Roles    []string          // that it has
	Purposes []access.Purpose  // that it may act for: see access.Principal
	Networks []netip.Prefix    // that it may be used from; empty means any
	Created  time.Time         //
	Expires  time.Time         // it is over at this time
	LastUsed time.Time         // within a minute; zero if never
	Revoked  time.Time         // zero if not
	Next     string            // ID of its successor; empty where there is none
}

// Live reports whether k may be used at a time.
func (k *Key) Live(at time.Time) bool {
	return k.Revoked.IsZero() && at.Before(k.Expires) && !at.Before(k.Created)
}

// principal returns who uses k.
func (k *Key) principal(addr netip.Addr) access.Principal {
	return access.Principal{
		ID: k.Service, Tenant: k.Tenant, Kind: access.Service, Roles: slices.Clone(k.Roles), Purposes: slices.Clone(k.Purposes),
		Session: "k-" + k.ID, Addr: addr,
	}
}

const (
	idBytes     = 10 // 80 bits: it names, and proves nothing
	secretBytes = 32 // 256 bits
	checkBytes  = 4  // CRC-32, so that a scanner can tell a token from its like

	idText     = 16 // in base 32
	secretText = 52
	checkText  = 7
)

var errToken = errors.New("machine: not a token of this application")

func encode(b []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// newSecret returns a token with its ID and the hash of its secret.
func newSecret(prefix string) (token, id string, hash [sha256.Size]byte) {
	for {
		var b [idBytes + secretBytes]byte
		rand.Read(b[:]) // never fails since Go 1.24
		id = encode(b[:idBytes])
		if access.CheckID("k-"+id) != nil {
			continue // it has the shape of what a person is known by
		}
		secret := encode(b[idBytes:])
		text := prefix + "_" + id + "_" + secret
		return text + check(text), id, sha256.Sum256([]byte(secret))
	}
}

// check is the checksum of a token's text before it.
func check(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	return encode([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// parseToken splits a token. The checksum proves nothing: it spares a look-up.
func parseToken(prefix, token string) (id string, hash [sha256.Size]byte, err error) {
	rest, ok := strings.CutPrefix(token, prefix+"_")
	if !ok || len(rest) != idText+1+secretText+checkText || rest[idText] != '_' {
		return "", hash, errToken
	}
	id, secret := rest[:idText], rest[idText+1:idText+1+secretText]
	if strings.Trim(id+secret, "abcdefghijklmnopqrstuvwxyz234567") != "" || check(token[:len(token)-checkText]) != token[len(token)-checkText:] {
		return "", hash, errToken
	}
	return id, sha256.Sum256([]byte(secret)), nil
}

// A NewKey is what [Keys.Issue] makes a key of.
type NewKey struct {
	Tenant   string           // required
	Service  string           // ID of the service, opaque, and of nobody else; required
	Roles    []string         // required
	Purposes []access.Purpose // required
	Networks []netip.Prefix   // empty means that it may be used from anywhere
	Life     time.Duration    // 0 means 90 days; at most Config.MaxLife
}

// maxNetworks bounds the networks of a key: they are looked through at each use.
const maxNetworks = 64

// validate names the first bad field, never with its value.
func (n *NewKey) validate(prefixed string) error {
	p := access.Principal{ID: n.Service, Tenant: n.Tenant, Kind: access.Service, Roles: n.Roles, Purposes: n.Purposes}
	switch {
	case len(n.Roles) == 0:
		return fmt.Errorf("%s.Roles is empty: a service without a role may do nothing", prefixed)
	case len(n.Purposes) == 0:
		return fmt.Errorf("%s.Purposes is empty: say what the service may act for", prefixed)
	case len(n.Networks) > maxNetworks:
		return fmt.Errorf("%s.Networks has more than %d", prefixed, maxNetworks)
	}
	if err := p.Validate(); err != nil {
		return fmt.Errorf("%s: %w", prefixed, err)
	}
	for i, net := range n.Networks {
		if !net.IsValid() || net != net.Masked() || net.Addr().Is4In6() {
			return fmt.Errorf("%s.Networks[%d] is not a network in the form 10.1.2.0/24", prefixed, i)
		}
	}
	return nil
}

// within reports whether an address is in one of the networks. Without networks
// every address is, also none.
func within(networks []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return len(networks) == 0 || slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}
