// SPDX-License-Identifier: Apache-2.0

package syslog_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/sink/syslog"
)

// A stream is a journal whose events go to a syslog receiver.
type stream struct {
	j    *audit.Journal
	ids  []string
	pipe *sink.Pipe
}

func newStream(t *testing.T) *stream {
	t.Helper()
	j, err := audit.Open(filepath.Join(audittest.Dir(t), "audit"), audit.Config{Development: true, SegmentSize: 256 << 10, CheckpointEvery: 50 * time.Millisecond, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return &stream{j: j}
}

func (s *stream) record(t *testing.T, n int) {
	t.Helper()
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
	for range n {
		r, err := s.j.Record(ctx, audit.Event{Type: audit.Searched, Outcome: audit.Success})
		if err != nil {
			t.Fatal(err)
		}
		s.ids = append(s.ids, r.ID)
	}
}

// open opens the sink and its pipe, as at each start of an app.
func (s *stream) open(t *testing.T, addr string, p pair) {
	t.Helper()
	out, err := syslog.New(syslog.Config{Address: addr, Recipient: "soc", TLS: &tls.Config{RootCAs: p.roots}})
	if err != nil {
		t.Fatal(err)
	}
	if s.pipe, err = sink.Open(s.j, out, sink.Config{Batch: 7, Retry: 10 * time.Millisecond, MaxRetry: 100 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.pipe.Close() })
}

func (s *stream) flush(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.pipe.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func (s *stream) close(t *testing.T) {
	t.Helper()
	if err := s.pipe.Close(); err != nil {
		t.Error(err)
	}
}

// missing returns which events a receiver does not have.
func (s *stream) missing(got []sink.Copy) (out []string) {
	has := make(map[string]bool)
	for _, c := range got {
		has[fmt.Sprintf("%s.%d", c.Writer, c.Seq)] = true
	}
	for _, id := range s.ids {
		if !has[id] {
			out = append(out, id)
		}
	}
	return out
}

// A receiver that took the connection and read nothing loses what was sent to
// it; the app is closed before it could send it again. It comes when the app is
// opened again.
func TestCloseWithEventsInFlightLosesNothing(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	addr := r.addr
	r.down()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	handshaken := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if err := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{r.pair.cert}}).Handshake(); err == nil {
				handshaken <- c
			}
		}
	}()
	s := newStream(t)
	s.record(t, 40)
	s.open(t, addr, r.pair)
	s.flush(t) // all of it is on its way
	_ = ln.Close()
	conn := <-handshaken
	_ = conn.(*net.TCPConn).SetLinger(0) // what was not read is gone
	_ = conn.Close()
	s.close(t)
	r.up(t)
	s.record(t, 3)
	s.open(t, addr, r.pair)
	s.flush(t)
	s.close(t) // once it has read everything
	r.mu.Lock()
	defer r.mu.Unlock()
	if lost := s.missing(r.all.got); len(lost) > 0 {
		t.Errorf("%d of %d events are lost: %v", len(lost), len(s.ids), lost)
	}
}

// Debian's rsyslog, killed and started again while events flow, and while the
// app is closed and opened with events in flight: it has every event in the end.
func TestRsyslogRestartedInMidStream(t *testing.T) {
	t.Parallel()
	rsyslogd(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			r := newRsyslog(t)
			s := newStream(t)
			for range 3 {
				s.open(t, r.addr, r.pair)
				s.record(t, 60)
				r.down(signal)
				s.record(t, 30)
				r.up(t)
				s.record(t, 30)
				s.close(t) // whatever is in flight
				r.down(signal)
				r.up(t)
			}
			s.open(t, r.addr, r.pair)
			s.flush(t)
			s.close(t)
			r.down(syscall.SIGTERM) // it writes what it has read
			if lost := s.missing(r.received(t)); len(lost) > 0 {
				t.Errorf("%d of %d events are lost: %v", len(lost), len(s.ids), lost)
			}
		})
	}
}
