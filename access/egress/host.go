// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// httpsPort is the port of https, RFC 9110 section 4.2.2.
const httpsPort = "443"

// checkHosts says what is wrong with a list of hosts.
func checkHosts(hosts []string) error {
	if len(hosts) == 0 {
		return errors.New("Hosts is empty")
	}
	for i, h := range hosts {
		name, port, _ := cutPort(h)
		if port == "" {
			return fmt.Errorf("Hosts[%d] has a port that is not one", i)
		}
		name, wild := strings.CutPrefix(name, "*.")
		if err := checkDNSName(name); err != nil {
			return fmt.Errorf("Hosts[%d] %w", i, err)
		}
		// One entry must not name what many parties share, such as *.co.uk or
		// *.github.io (the Public Suffix List).
		if suffix, _ := publicsuffix.PublicSuffix(name); suffix == name && (wild || strings.Contains(name, ".")) {
			return fmt.Errorf("Hosts[%d] is a public suffix, under which anybody may have a name", i)
		}
	}
	return nil
}

// cutPort splits a host of the registry or of a URL. Without a port it is 443;
// port is empty where it is no number of a port.
func cutPort(host string) (name, port string, given bool) {
	name, port, given = strings.Cut(host, ":")
	if !given {
		return name, httpsPort, false
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
		return name, "", true
	}
	return name, port, true
}

// checkDNSName says why name is not a full DNS name in lower case (RFC 1123
// section 2.1, RFC 5890 section 2.3.1). What an address parser could take for an
// address, such as 127.1 or 0x7f000001, is none.
func checkDNSName(name string) error {
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return errors.New("is an IP address: give the DNS name")
	}
	if len(name) > 253 {
		return errors.New("is longer than 253 bytes")
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		switch {
		case l == "":
			return errors.New("has an empty label: no dot at the end, and none twice")
		case len(l) > 63:
			return errors.New("has a label longer than 63 bytes")
		case l[0] == '-' || l[len(l)-1] == '-':
			return errors.New("has a label that begins or ends with a hyphen")
		}
		for i := range len(l) {
			if c := l[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return errors.New("is not a DNS name in lower case: write international names as xn--")
			}
		}
	}
	switch last := labels[len(labels)-1]; {
	case len(labels) < 2:
		return errors.New("is not a full name: it has no dot")
	case last[0] >= '0' && last[0] <= '9':
		return errors.New("ends in a number, as an IP address does: give the DNS name")
	}
	return nil
}

// matches reports whether a host of the registry covers name and port.
func matches(host, name, port string) bool {
	h, p, _ := cutPort(host)
	if p != port {
		return false
	}
	base, wild := strings.CutPrefix(h, "*.")
	if !wild {
		return h == name
	}
	label, rest, ok := strings.Cut(name, ".")
	return ok && label != "" && rest == base
}
