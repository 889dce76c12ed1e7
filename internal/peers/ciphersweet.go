// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/part164/part164/crypto"
)

// ciphersweet is what runs ciphersweet-js, pinned by its lock file.
//
//go:embed testdata/ciphersweet
var ciphersweet embed.FS

// peerFigures compare with another project's field encryption.
func peerFigures() []figure {
	return []figure{{"ciphersweet-js (FIPSCrypto) decrypt / cell open, 32 B", goal{least: 200}, ciphersweetJS}}
}

// ciphersweetJS opens the same 32 bytes, bound to a record, there in a child
// process of Node.js and here, in turns. Each side takes its own time, so that
// the pipe between them does not count.
func ciphersweetJS(ctx context.Context, dir string) (_ value, err error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return value{}, absent("no node")
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return value{}, absent("no npm")
	}
	files, err := ciphersweet.ReadDir("testdata/ciphersweet")
	if err != nil {
		return value{}, err
	}
	for _, f := range files {
		data, err := ciphersweet.ReadFile("testdata/ciphersweet/" + f.Name())
		if err != nil {
			return value{}, err
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name()), data, 0o600); err != nil {
			return value{}, err
		}
	}
	install := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if err := install.Run(); err != nil {
		return value{}, absent("npm could not install it")
	}

	child := exec.CommandContext(ctx, node, "decrypt.mjs")
	child.Dir, child.Stderr = dir, os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		return value{}, err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return value{}, err
	}
	if err := child.Start(); err != nil {
		return value{}, err
	}
	defer func() { err = errors.Join(err, in.Close(), child.Wait()) }()
	answers := bufio.NewReader(out)

	place := crypto.Binding{Tenant: "clinic-7", Field: "patients.name", Record: "01998ab1-5a4e-7d3c-9f10-8f6f1c3a2b10", Subject: "01998ab1-5a4e-7d3c-9f10-8f6f1c3a2b10"}
	key, err := cellKey(ctx, place)
	if err != nil {
		return value{}, err
	}
	plain := make([]byte, 32)
	rand.Read(plain)
	cell, err := key.Seal(nil, plain, place)
	if err != nil {
		return value{}, err
	}
	const theirs, ours = 20, 20_000
	buf := make([]byte, 0, 1024)
	open := timed(ours, func(context.Context) error { _, err := key.Open(buf, cell, place); return err })
	return ratio(ctx, 31,
		func(context.Context) (float64, error) {
			if _, err := io.WriteString(in, strconv.Itoa(theirs)+"\n"); err != nil {
				return 0, err
			}
			line, err := answers.ReadString('\n')
			if err != nil {
				return 0, fmt.Errorf("ciphersweet-js ended: %w", err)
			}
			ns, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
			return ns / theirs, err
		},
		func(ctx context.Context) (float64, error) {
			ns, err := open(ctx)
			return ns / ours, err
		})
}
