// SPDX-License-Identifier: Apache-2.0

package zapsink_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/format"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/sink/zapsink"
	"github.com/part164/part164/audit/sinktest"
)

// A gate is a log file that can be taken away.
type gate struct {
	file string

	mu    sync.Mutex
	down  bool
	delay time.Duration
	lose  int
	syncs int
}

func (g *gate) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.down {
		return 0, errors.New("no space left on device")
	}
	if g.lose > 0 {
		g.lose--
		return len(b), nil
	}
	f, err := os.OpenFile(g.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := f.Write(b)
	return n, errors.Join(err, f.Close())
}

func (g *gate) Sync() error {
	g.mu.Lock()
	delay := g.delay
	g.syncs++
	down := g.down
	g.mu.Unlock()
	time.Sleep(delay)
	if down {
		return errors.New("input/output error")
	}
	return nil
}

func (g *gate) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// received reads the log file as its reader would, and takes the hashes of the
// lines that it finds there.
func (g *gate) received(t testing.TB) []sink.Copy {
	t.Helper()
	text, err := os.ReadFile(g.file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out []sink.Copy
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct{ Event string }
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			t.Fatal(err)
		}
		c, err := sink.ReadCopy([]byte(entry.Event))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func logger(w zapcore.WriteSyncer) *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), w, zap.InfoLevel))
}

func TestConformance(t *testing.T) {
	t.Parallel()
	sinktest.TestSink(t, audittest.Dir, func(t testing.TB) *sinktest.Target {
		g := &gate{file: filepath.Join(t.TempDir(), "audit.log")}
		return &sinktest.Target{
			Open: func(t testing.TB) sink.Sink {
				s, err := zapsink.New(zapsink.Config{Logger: logger(g)})
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Received: g.received,
			Down:     func(_ testing.TB, down bool) { g.set(func() { g.down = down }) },
			Slow:     func(_ testing.TB, d time.Duration) { g.set(func() { g.delay = d }) },
			Lose:     func(_ testing.TB, n int) { g.set(func() { g.lose = n }) },
		}
	})
}

func lines(t testing.TB) []audit.Line {
	t.Helper()
	return []audit.Line{{Stored: audit.Stored{ID: "j1.7", Seq: 7, Type: audit.SignIn, Outcome: audit.Success}, Raw: []byte(`{"seq":7}`), Position: audit.Position{Writer: "j1", Seq: 7}}}
}

// A logger that samples or that takes warnings only loses what is logged the
// usual way.
func TestNoSamplerAndNoLevelDropsAnEvent(t *testing.T) {
	t.Parallel()
	var buf syncBuffer
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), &buf, zap.ErrorLevel)
	core = zapcore.NewSamplerWithOptions(core, time.Hour, 1, 0)
	s, err := zapsink.New(zapsink.Config{Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if n, err := s.Deliver(t.Context(), lines(t)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := strings.Count(buf.String(), "j1.7"); got != 20 { // its id, and in the document
		t.Errorf("the log names the events %d times, want 20: %s", got, buf.String())
	}
}

type syncBuffer struct {
	bytes.Buffer
	err error
}

func (b *syncBuffer) Sync() error { return b.err }

func TestNothingIsAcceptedUnsynced(t *testing.T) {
	t.Parallel()
	buf := &syncBuffer{err: errors.New("input/output error")}
	s, err := zapsink.New(zapsink.Config{Logger: logger(buf)})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Deliver(t.Context(), lines(t)); n != 0 || err == nil {
		t.Errorf("after a failed sync: %d accepted, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := s.Deliver(ctx, lines(t)); n != 0 || err == nil {
		t.Errorf("after the end: %d accepted, %v", n, err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if _, err := zapsink.New(zapsink.Config{}); err == nil || !strings.Contains(err.Error(), "Config.Logger") {
		t.Error(err)
	}
	if _, err := zapsink.New(zapsink.Config{Logger: zap.NewNop(), Encoder: format.Encoder{Format: "xml"}}); err == nil || !strings.Contains(err.Error(), "Config.Encoder") {
		t.Error(err)
	}
}
