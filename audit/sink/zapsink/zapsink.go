// SPDX-License-Identifier: Apache-2.0

// Package zapsink writes a journal's events to a zap logger, one entry each.
//
// The entries go straight to the logger's core: no sampling drops them, no
// level filters them, and an entry that the core does not write is tried again.
// After each batch the core is synced. What becomes of a file that is rotated
// away is the business of whoever rotates it.
package zapsink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/format"
	"github.com/part164/part164/audit/sink"
)

// Config configures [New]. The zero value of every field but Logger is the
// production setting.
type Config struct {
	// Logger takes the entries. Required.
	Logger *zap.Logger

	// Name tells the sinks of a journal apart. Empty means "zap".
	Name string

	// Recipient is the opaque ID of who reads the log, where that is somebody
	// else; see [sink.Sink].
	Recipient string

	// Encoder makes the documents. The zero Encoder is native JSON.
	Encoder format.Encoder
}

// A Sink writes entries. Make it with [New].
type Sink struct{ cfg Config }

var _ sink.Sink = (*Sink)(nil)

// New returns the sink, or names the bad field of cfg.
func New(cfg Config) (*Sink, error) {
	if cfg.Logger == nil {
		return nil, errors.New("audit: zap sink: Config.Logger is nil")
	}
	if cfg.Name == "" {
		cfg.Name = "zap"
	}
	if err := cfg.Encoder.Check(); err != nil {
		return nil, fmt.Errorf("audit: zap sink: Config.Encoder: %w", err)
	}
	return &Sink{cfg}, nil
}

// Name implements [sink.Sink].
func (s *Sink) Name() string { return s.cfg.Name }

// Recipient implements [sink.Sink].
func (s *Sink) Recipient() string { return s.cfg.Recipient }

// Deliver implements [sink.Sink].
func (s *Sink) Deliver(ctx context.Context, lines []audit.Line) (accepted int, err error) {
	core := s.cfg.Logger.Core()
	for i := range lines {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		l := &lines[i]
		text, err := s.cfg.Encoder.Append(nil, *l)
		if err != nil {
			return i, fmt.Errorf("%w: %w", sink.ErrPoison, err)
		}
		entry := zapcore.Entry{Level: zapcore.InfoLevel, Time: l.Time, LoggerName: s.cfg.Logger.Name(), Message: "audit"}
		for doc := range documents(text) {
			if err := core.Write(entry, []zapcore.Field{
				zap.String("id", l.ID), zap.String("type", string(l.Type)), zap.ByteString("event", doc),
			}); err != nil {
				return 0, fmt.Errorf("zap sink: write: %w", err)
			}
		}
	}
	// Nothing is accepted before it is synced. A console cannot be.
	err = core.Sync()
	if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTTY) && !errors.Is(err, errors.ErrUnsupported) {
		return 0, fmt.Errorf("zap sink: sync: %w", err)
	}
	return len(lines), nil
}

// documents yields the lines of text without their newlines.
func documents(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for doc := range bytes.Lines(text) {
			if !yield(bytes.TrimSuffix(doc, []byte{'\n'})) {
				return
			}
		}
	}
}
