// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/part164/part164/audit/witness"
)

// witnessTrail writes the journal's checkpoints, one a minute, to a file of
// other people's disk, which auditctl verify reads with --witness: so that a
// tail which is cut off shows. It returns what writes the last one, once the
// journal is closed.
func (a *app) witnessTrail() (end func() error, err error) {
	path := a.options.witness
	if path == "" {
		return func() error { return nil }, nil
	}
	whole, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	data, err := filepath.Abs(a.options.data)
	if err != nil {
		return nil, err
	}
	if inside, err := filepath.Rel(data, whole); err == nil && inside != ".." && !strings.HasPrefix(inside, ".."+string(filepath.Separator)) {
		return nil, fmt.Errorf("clinic: -witness %s is in the data folder: whoever can cut the journal can cut it too", path)
	}
	f, err := os.OpenFile(whole, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("clinic: -witness: %w", err)
	}
	lines := witness.NewLines(f)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- witness.Run(ctx, a.journal, lines, witness.RunConfig{}) }()
	return func() error {
		stop()
		err := <-done
		_, serr := witness.Submit(context.Background(), witness.Folder(a.options.in("audit")), lines)
		return errors.Join(err, serr, f.Close())
	}, nil
}
