// SPDX-License-Identifier: Apache-2.0

package syslog_test

import (
	"crypto/tls"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/format"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/sink/syslog"
	"github.com/part164/part164/audit/sinktest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sinktest.TestSink(t, audittest.Dir, func(t testing.TB) *sinktest.Target {
		r := newReceiver(t)
		return &sinktest.Target{
			Open: func(t testing.TB) sink.Sink { return open(t, r, 0) },
			Received: func(testing.TB) []sink.Copy {
				r.mu.Lock()
				defer r.mu.Unlock()
				return slices.Clone(r.all.got)
			},
			Down: func(t testing.TB, down bool) {
				if down {
					r.down()
				} else {
					r.up(t)
				}
			},
			Lose: func(_ testing.TB, n int) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.lose = n
			},
		}
	})
}

func open(t testing.TB, r *receiver, maxMessage int) *syslog.Sink {
	t.Helper()
	s, err := syslog.New(syslog.Config{Address: r.addr, Recipient: "soc", TLS: &tls.Config{RootCAs: r.pair.roots}, MaxMessage: maxMessage})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func line(seq uint64, raw string) audit.Line {
	s := audit.Stored{ID: "j1.7", Seq: seq, Time: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), Type: audit.SignIn, Outcome: audit.Success}
	return audit.Line{Stored: s, Raw: []byte(raw), Position: audit.Position{Writer: `j"1\]`, Seq: seq}}
}

// messages sends lines and returns what arrives.
func messages(t *testing.T, maxMessage int, lines ...audit.Line) (*receiver, []message) {
	t.Helper()
	r := newReceiver(t)
	s := open(t, r, maxMessage)
	if n, err := s.Deliver(t.Context(), lines); n != len(lines) || err != nil {
		t.Fatal(n, err)
	}
	if err := s.Close(); err != nil { // once the receiver has read everything
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = nil // these lines are not a journal's
	return r, r.all.msgs
}

func TestMessage(t *testing.T) {
	t.Parallel()
	failed := line(8, `{"seq":8}`)
	failed.Type, failed.Outcome = audit.SignInFailed, audit.Failure
	odd := line(9, `{"seq":9}`)
	odd.Type = "two words"
	_, msgs := messages(t, 0, line(7, `{"seq":7}`), failed, odd)
	if len(msgs) != 3 {
		t.Fatalf("%d messages", len(msgs))
	}
	m := msgs[0]
	if m.pri != 13*8+5 || m.version != 1 || m.time != "2026-11-22T00:00:00.000000Z" || m.app != "part164" || m.msgid != "signin" {
		t.Errorf("header %+v", m)
	}
	if m.data["writer"] != `j"1\]` || m.data["seq"] != "7" || len(m.data["leaf"]) != 43 || m.data["part"] != "" {
		t.Errorf("structured data %v", m.data)
	}
	if !strings.HasSuffix(m.text, `"line":{"seq":7}}`) {
		t.Errorf("message %q", m.text)
	}
	if msgs[1].pri != 13*8+4 || msgs[2].msgid != "-" {
		t.Errorf("a failure has priority %d; a type that is no MSGID gives %q", msgs[1].pri, msgs[2].msgid)
	}
}

// What a receiver would cut is sent in parts.
func TestALongEventIsSentInParts(t *testing.T) {
	t.Parallel()
	raw := `{"seq":7,"x":"` + strings.Repeat("0123456789", 5000) + `"}`
	for _, most := range []int{1024, 8192} {
		r, msgs := messages(t, most, line(7, raw), line(8, `{"seq":8}`))
		var all strings.Builder
		for i, m := range msgs[:len(msgs)-1] {
			all.WriteString(m.text)
			if m.data["part"] != strconv.Itoa(i+1) || m.data["parts"] != strconv.Itoa(len(msgs)-1) {
				t.Fatalf("message %d is part %s of %s", i, m.data["part"], m.data["parts"])
			}
		}
		if !strings.HasSuffix(all.String(), `"line":`+raw+"}") {
			t.Error("the parts do not make the event")
		}
		if r.frame > most {
			t.Errorf("a message has %d bytes, more than %d", r.frame, most)
		}
	}
}

// A receiver that went down while nothing was to be sent gets the last
// messages as soon as it is back, before there is another event.
func TestTheLastMessagesComeAgainByThemselves(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s := open(t, r, 0)
	defer s.Close()
	if _, err := s.Deliver(t.Context(), []audit.Line{line(7, `{"seq":7}`)}); err != nil {
		t.Fatal(err)
	}
	count := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = nil
		return len(r.all.msgs)
	}
	wait := func(n int) {
		for deadline := time.Now().Add(20 * time.Second); count() < n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d messages arrived, want %d", count(), n)
			}
		}
	}
	wait(1)
	r.down()
	r.up(t)
	wait(2)
}

func TestAnUnverifiedReceiverGetsNothing(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s, err := syslog.New(syslog.Config{Address: r.addr, Recipient: "soc"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.Deliver(t.Context(), []audit.Line{line(7, `{"seq":7}`)}); n != 0 || err == nil {
		t.Errorf("%d accepted, %v", n, err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := syslog.Config{Address: "siem.example:6514", Recipient: "soc"}
	for _, tt := range []struct {
		name   string
		change func(*syslog.Config)
		want   string
	}{
		{"good", func(*syslog.Config) {}, ""},
		{"no port", func(c *syslog.Config) { c.Address = "siem.example" }, "Config.Address"},
		{"no host", func(c *syslog.Config) { c.Address = ":6514" }, "Config.Address"},
		{"no TLS", func(c *syslog.Config) { c.Plain = true }, "use TLS"},
		{"no TLS to this machine", func(c *syslog.Config) { c.Plain, c.Address = true, "127.0.0.1:514" }, ""},
		{"unverified", func(c *syslog.Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} }, "InsecureSkipVerify"},
		{"no recipient", func(c *syslog.Config) { c.Recipient = "" }, "Config.Recipient"},
		{"no format", func(c *syslog.Config) { c.Encoder = format.Encoder{Format: "xml"} }, "Config.Encoder"},
		{"a host of two words", func(c *syslog.Config) { c.Hostname = "a b" }, "Config.Hostname"},
		{"an app of two words", func(c *syslog.Config) { c.App = "a b" }, "Config.App"},
		{"short messages", func(c *syslog.Config) { c.MaxMessage = 100 }, "Config.MaxMessage"},
		{"nothing again", func(c *syslog.Config) { c.Resend = -1 }, "Config.Resend"},
		{"a negative number", func(c *syslog.Config) { c.Enterprise = -1 }, "Config.Enterprise"},
	} {
		cfg := good
		tt.change(&cfg)
		_, err := syslog.New(cfg)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
