// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/part164/part164/access"
)

// CheckTransport is for sinks that leave the machine. It says what is wrong
// with the way to a receiver: transmission security, 45 CFR 164.312(e)(1).
// host is the receiver's name or address, with or without a port. Without TLS
// only a literal loopback address is allowed, such as 127.0.0.1; and TLS whose
// certificates are not verified is none.
func CheckTransport(host string, secure bool, cfg *tls.Config) error {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "" {
		return errors.New("the receiver's address is empty")
	}
	if secure && (cfg == nil || !cfg.InsecureSkipVerify) {
		if cfg != nil && cfg.MaxVersion != 0 && cfg.MaxVersion < tls.VersionTLS12 {
			return errors.New("TLS older than 1.2 is not secure: leave MaxVersion at zero")
		}
		return nil
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Unmap().IsLoopback() {
		return nil
	}
	if secure {
		return errors.New("TLS does not verify the receiver: leave InsecureSkipVerify off, and put its CA into RootCAs")
	}
	return errors.New("the receiver is on another machine and there is no TLS: use TLS")
}

// CheckRecipient is for the same sinks: each names who runs the receiver.
func CheckRecipient(id string) error {
	if err := access.CheckID(id); err != nil {
		return fmt.Errorf("Config.Recipient %w: it is the opaque ID of the business associate who gets the events", err)
	}
	return nil
}
