// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/witness"
)

// A witnessed holds the flags of a command that asks witnesses.
type witnessed struct {
	sources []string
	keys    []string // files
	ca      string
}

func (c *call) witnessed() *witnessed {
	w := new(witnessed)
	c.flags.Func("witness", "", func(s string) error { w.sources = append(w.sources, s); return nil })
	c.flags.Func("witness-key", "", func(s string) error { w.keys = append(w.keys, s); return nil })
	c.flags.StringVar(&w.ca, "witness-ca", "", "")
	return w
}

func isURL(s string) bool { return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") }

// anchors asks every witness; logs are the public keys of the journals.
func (w *witnessed) anchors(ctx context.Context, logs string) ([]audit.Anchor, error) {
	var out []audit.Anchor
	err := w.each(logs, func(source string, trust witness.Trust, config *tls.Config) error {
		var as []audit.Anchor
		var err error
		if isURL(source) {
			err = ask(source, trust, config, func(c *witness.Client) (err error) { as, err = c.Roster(ctx); return err })
		} else {
			as, err = witness.Read(source, trust)
		}
		out = append(out, as...)
		return err
	})
	return out, err
}

// newestNote returns the newest checkpoint of origin that a witness saw, with
// its cosignatures.
func (w *witnessed) newestNote(ctx context.Context, origin, logs string) ([]byte, error) {
	var newest []byte
	size := uint64(0)
	err := w.each(logs, func(source string, trust witness.Trust, config *tls.Config) error {
		var notes [][]byte
		var err error
		if isURL(source) {
			err = ask(source, trust, config, func(c *witness.Client) (err error) { notes, err = c.Notes(ctx); return err })
		} else if _, err = witness.Read(source, trust); err == nil { // Notes checks nothing
			notes, err = witness.Notes(source)
		}
		for _, n := range notes {
			cp, err := audit.ParseCheckpoint(n, logs)
			if err == nil && cp.Origin == origin && cp.Size >= size {
				newest, size = bytes.Clone(n), cp.Size
			}
		}
		return err
	})
	if err == nil && newest == nil {
		err = errors.New("no witness has seen this journal")
	}
	return newest, err
}

// each calls use for each source, which may be none, with whom it needs the
// signature of.
func (w *witnessed) each(logs string, use func(source string, trust witness.Trust, config *tls.Config) error) error {
	keys, err := readLinesOf(w.keys)
	if err != nil {
		return err
	}
	if len(w.sources) == 0 && len(keys) > 0 {
		return usagef("--witness-key without --witness")
	}
	var config *tls.Config
	if w.ca != "" {
		pem, err := os.ReadFile(w.ca)
		if err != nil {
			return err
		}
		config = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return errors.New(w.ca + " has no certificate in PEM")
		}
	}
	for _, source := range w.sources {
		if isURL(source) && len(keys) == 0 {
			return usagef("--witness with a URL needs --witness-key")
		}
		if err := use(source, witness.Trust{Witnesses: keys, Logs: strings.Fields(logs)}, config); err != nil {
			return fmt.Errorf("--witness %s: %w", source, err)
		}
	}
	return nil
}

// ask asks the witness at a URL by the key that it signs its answers with.
func ask(source string, trust witness.Trust, config *tls.Config, question func(*witness.Client) error) error {
	var errs []error
	for _, key := range trust.Witnesses {
		c, err := witness.NewClient(source, key, config)
		if err != nil {
			return err
		}
		if err = question(c); err == nil {
			return nil
		}
		if errs = append(errs, err); !errors.Is(err, witness.ErrCosignature) {
			break
		}
	}
	return errors.Join(errs...)
}
