// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
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
	keys, err := readLinesOf(w.keys)
	if err != nil {
		return nil, err
	}
	if len(w.sources) == 0 && len(keys) > 0 {
		return nil, usagef("--witness-key without --witness")
	}
	var config *tls.Config
	if w.ca != "" {
		pem, err := os.ReadFile(w.ca)
		if err != nil {
			return nil, err
		}
		config = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New(w.ca + " has no certificate in PEM")
		}
	}
	var out []audit.Anchor
	for _, source := range w.sources {
		as, err := w.ask(ctx, source, witness.Trust{Witnesses: keys, Logs: strings.Fields(logs)}, config)
		if err != nil {
			return nil, err
		}
		out = append(out, as...)
	}
	return out, nil
}

func (w *witnessed) ask(ctx context.Context, source string, trust witness.Trust, config *tls.Config) ([]audit.Anchor, error) {
	if !isURL(source) {
		return witness.Read(source, trust)
	}
	if len(trust.Witnesses) == 0 {
		return nil, usagef("--witness with a URL needs --witness-key")
	}
	var errs []error
	for _, key := range trust.Witnesses { // the one that signs its answers
		c, err := witness.NewClient(source, key, config)
		if err != nil {
			return nil, err
		}
		as, err := c.Roster(ctx)
		if err == nil {
			return as, nil
		}
		if errs = append(errs, err); !errors.Is(err, witness.ErrCosignature) {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// newestNote returns the newest cosigned checkpoint of origin in the witness
// files, with its cosignatures.
func (w *witnessed) newestNote(origin, logs string) ([]byte, error) {
	keys, err := readLinesOf(w.keys)
	if err != nil {
		return nil, err
	}
	var newest []byte
	size := uint64(0)
	for _, source := range w.sources {
		if isURL(source) {
			return nil, usagef("--witness takes a file here")
		}
		if _, err := witness.Read(source, witness.Trust{Witnesses: keys, Logs: strings.Fields(logs)}); err != nil {
			return nil, err
		}
		notes, err := witness.Notes(source)
		if err != nil {
			return nil, err
		}
		for _, n := range notes {
			cp, err := audit.ParseCheckpoint(n, logs)
			if err == nil && cp.Origin == origin && cp.Size >= size {
				newest, size = bytes.Clone(n), cp.Size
			}
		}
	}
	if newest == nil {
		return nil, errors.New("no witness has seen this journal")
	}
	return newest, nil
}
