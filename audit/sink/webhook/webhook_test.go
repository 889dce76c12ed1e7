// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/format"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/sink/webhook"
	"github.com/part164/part164/audit/sinktest"
)

var secret = bytes.Repeat([]byte{7}, 32)

// A receiver is what docs tell people to write: it verifies, knows a
// repetition by the event's ID, and answers 2xx once it has the events.
type receiver struct {
	t *httptest.Server

	mu      sync.Mutex
	got     []sink.Copy
	seen    map[sink.Copy]bool
	down    int
	delay   time.Duration
	poison  string
	refusal int // the status that poison gets; 0 means 422
	lose    int
	forget  int // answers to lose: the events are kept, the answer is an error
	posts   int
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{seen: make(map[sink.Copy]bool)}
	r.t = httptest.NewTLSServer(http.HandlerFunc(r.post))
	t.Cleanup(r.t.Close)
	return r
}

func (r *receiver) post(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if err := webhook.Verify(req.Header, body, secret, time.Now(), 0); err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.mu.Lock()
	delay := r.delay
	r.mu.Unlock()
	time.Sleep(delay)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posts++
	if r.down != 0 {
		w.WriteHeader(r.down)
		return
	}
	if r.poison != "" && bytes.Contains(body, []byte(`{"id":"`+r.poison+`"`)) {
		w.WriteHeader(cmp.Or(r.refusal, http.StatusUnprocessableEntity))
		return
	}
	for doc := range bytes.Lines(body) {
		c, err := sink.ReadCopy(doc)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if r.lose > 0 {
			r.lose--
			continue
		}
		if !r.seen[c] {
			r.seen[c] = true
			r.got = append(r.got, c)
		}
	}
	if r.forget > 0 {
		r.forget--
		w.WriteHeader(http.StatusBadGateway)
	}
}

func (r *receiver) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *receiver) config() webhook.Config {
	roots := x509.NewCertPool()
	roots.AddCert(r.t.Certificate())
	return webhook.Config{URL: r.t.URL, Recipient: "ba-1", Secret: secret, TLS: &tls.Config{RootCAs: roots}}
}

func target(single bool) func(t testing.TB) *sinktest.Target {
	return func(t testing.TB) *sinktest.Target {
		r := newReceiver(t)
		r.forget = 2 // some answers never arrive
		return &sinktest.Target{
			Once: true,
			Open: func(t testing.TB) sink.Sink {
				cfg := r.config()
				cfg.Single = single
				s, err := webhook.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Received: func(testing.TB) []sink.Copy {
				r.mu.Lock()
				defer r.mu.Unlock()
				return slices.Clone(r.got)
			},
			Down: func(_ testing.TB, down bool) {
				r.set(func() {
					r.down = 0
					if down {
						r.down = http.StatusServiceUnavailable
					}
				})
			},
			Slow:   func(_ testing.TB, d time.Duration) { r.set(func() { r.delay = d }) },
			Poison: func(_ testing.TB, id string) { r.set(func() { r.poison = id }) },
			Lose:   func(_ testing.TB, n int) { r.set(func() { r.lose = n }) },
		}
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	sinktest.TestSink(t, audittest.Dir, target(false))
}

func TestConformanceOfSinglePosts(t *testing.T) {
	t.Parallel()
	sinktest.TestSink(t, audittest.Dir, target(true))
}

func line() audit.Line {
	return audit.Line{Stored: audit.Stored{ID: "j1.7", Seq: 7, Type: audit.SignIn, Outcome: audit.Success}, Raw: []byte(`{"seq":7}`), Position: audit.Position{Writer: "j1", Seq: 7}}
}

// answer posts one line to a receiver that answers so.
func answer(t *testing.T, code int, header http.Header) (accepted int, err error) {
	t.Helper()
	var elsewhere int
	mux := http.NewServeMux()
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { elsewhere++ })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		for k, v := range header {
			w.Header()[k] = v
		}
		w.WriteHeader(code)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	s, err := webhook.New(webhook.Config{URL: srv.URL, Recipient: "ba-1", Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	accepted, err = s.Deliver(t.Context(), []audit.Line{line()})
	if elsewhere > 0 {
		t.Errorf("%d: a redirection was followed", code)
	}
	return accepted, err
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{
		200: "", 202: "", 204: "",
		413: "poison", 422: "poison",
		301: "later", 302: "later", 307: "later", 308: "later",
		400: "refused", 403: "refused", 406: "refused", 409: "refused", 415: "refused", 431: "refused",
		401: "later", 404: "later", 405: "later", 407: "later", 408: "later", 410: "later", 425: "later", 429: "later",
		500: "later", 502: "later", 503: "later",
	} {
		n, err := answer(t, code, http.Header{"Location": {"/elsewhere"}})
		got := ""
		switch {
		case errors.Is(err, sink.ErrPoison):
			got = "poison"
		case errors.Is(err, sink.ErrRefused):
			got = "refused"
		case err != nil:
			got = "later"
		}
		if got != want || (n == 1) != (want == "") {
			t.Errorf("after %d: %d accepted, %v; want %q", code, n, err, want)
		}
	}
}

// A receiver that answers 400 to one event of many holds up none of the others:
// the event is parked. One that answers 400 to everything loses nothing.
func TestOneEventThatIsNoGoodToTheReceiver(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusBadRequest, http.StatusForbidden} {
		j, err := audit.Open(filepath.Join(audittest.Dir(t), "audit"), audit.Config{Development: true, SegmentSize: 256 << 10, CheckpointEvery: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		var ids []string
		record := func() {
			for range 20 {
				r, err := j.Record(access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment),
					audit.Event{Type: audit.Searched, Outcome: audit.Success})
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, r.ID)
			}
		}
		record()
		r := newReceiver(t)
		r.refusal, r.poison = code, ids[7]
		s, err := webhook.New(r.config())
		if err != nil {
			t.Fatal(err)
		}
		p, err := sink.Open(j, s, sink.Config{Retry: time.Millisecond, MaxRetry: 5 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		flush := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := p.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
		flush()
		if lag, err := p.Lag(t.Context()); err != nil || lag.Parked != 1 {
			t.Errorf("%d for one event: %+v, %v", code, lag, err)
		}
		r.set(func() { r.down = code })
		tries := r.posts
		record()
		for deadline := time.Now().Add(time.Minute); ; {
			n := 0
			r.set(func() { n = r.posts })
			if n > tries+40 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d posts after %d", n, tries)
			}
			runtime.Gosched()
		}
		if lag, err := p.Lag(t.Context()); err != nil || lag.Parked != 1 || lag.Events < 20 {
			t.Errorf("%d for everything: %+v, %v", code, lag, err)
		}
		r.set(func() { r.down, r.poison = 0, "" })
		flush()
		if accepted, left, err := p.Retry(t.Context()); accepted != 1 || left != 0 || err != nil {
			t.Errorf("Retry = %d, %d, %v", accepted, left, err)
		}
		seen := make(map[string]int)
		r.set(func() {
			for _, c := range r.got {
				seen[fmt.Sprintf("%s.%d", c.Writer, c.Seq)]++
			}
		})
		for _, id := range ids {
			if seen[id] != 1 {
				t.Errorf("%d: %s arrived %d times", code, id, seen[id])
			}
		}
	}
}

// What a receiver refuses is found in a batch by halving it: the others are
// not held up, and none is refused with it.
func TestOnlyThePoisonIsRefused(t *testing.T) {
	t.Parallel()
	var posts [][]byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte(`"j1.13"`)) {
			w.WriteHeader(422)
			return
		}
		posts = append(posts, body)
	}))
	defer srv.Close()
	s, err := webhook.New(webhook.Config{URL: srv.URL, Recipient: "ba-1", Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var lines []audit.Line
	for seq := range uint64(20) {
		l := line()
		l.ID, l.Seq, l.Position.Seq = "j1."+string('0'+rune(seq/10))+string('0'+rune(seq%10)), seq, seq
		lines = append(lines, l)
	}
	n, err := s.Deliver(t.Context(), lines)
	if n != 13 || !errors.Is(err, sink.ErrPoison) {
		t.Errorf("%d accepted, %v; want 13 and the poison", n, err)
	}
	if got := bytes.Count(bytes.Join(posts, nil), []byte{'\n'}); got != 13 {
		t.Errorf("the receiver took %d events", got)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	var header http.Header
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header, body = r.Header.Clone(), nil
		body, _ = io.ReadAll(r.Body)
	}))
	defer srv.Close()
	now := time.Unix(1_800_000_000, 0)
	s, err := webhook.New(webhook.Config{URL: srv.URL, Recipient: "ba-1", Secret: secret, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Deliver(t.Context(), []audit.Line{line()}); err != nil {
		t.Fatal(err)
	}
	if got := header.Get("Idempotency-Key"); got != `"j1/7-7"` {
		t.Errorf("Idempotency-Key %s", got)
	}
	if err := webhook.Verify(header, body, secret, now.Add(4*time.Minute), 0); err != nil {
		t.Error(err)
	}
	forged := header.Clone()
	stamp, mac, _ := strings.Cut(header.Get("Part164-Signature"), ",")
	forged.Set("Part164-Signature", "t=1800000001,"+mac)
	none := header.Clone()
	none.Del("Part164-Signature")
	short := header.Clone()
	short.Set("Part164-Signature", stamp+",v1="+strings.TrimPrefix(mac, "v1=")[:62])
	for name, err := range map[string]error{
		"another body":     webhook.Verify(header, append(body, ' '), secret, now, 0),
		"another secret":   webhook.Verify(header, body, bytes.Repeat([]byte{8}, 32), now, 0),
		"a short secret":   webhook.Verify(header, body, []byte("x"), now, 0),
		"too old":          webhook.Verify(header, body, secret, now.Add(6*time.Minute), 0),
		"of the future":    webhook.Verify(header, body, secret, now.Add(-6*time.Minute), 0),
		"another time":     webhook.Verify(forged, body, secret, now, 0),
		"none":             webhook.Verify(none, body, secret, now, 0),
		"a part of it":     webhook.Verify(short, body, secret, now, 0),
		"an empty request": webhook.Verify(http.Header{}, nil, secret, now, 0),
	} {
		if !errors.Is(err, webhook.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := webhook.Config{URL: "https://siem.example/hook", Recipient: "ba-1", Secret: secret}
	for _, tt := range []struct {
		name   string
		change func(*webhook.Config)
		want   string
	}{
		{"good", func(*webhook.Config) {}, ""},
		{"no URL", func(c *webhook.Config) { c.URL = "" }, "Config.URL"},
		{"another scheme", func(c *webhook.Config) { c.URL = "ftp://siem.example/" }, "Config.URL"},
		{"a password", func(c *webhook.Config) { c.URL = "https://me:pw@siem.example/" }, "Config.URL"},
		{"no TLS", func(c *webhook.Config) { c.URL = "http://siem.example/" }, "use TLS"},
		{"no TLS to a name that may be anything", func(c *webhook.Config) { c.URL = "http://localhost/" }, "use TLS"},
		{"no TLS to a number that looks like loopback", func(c *webhook.Config) { c.URL = "http://127.1/" }, "use TLS"},
		{"loopback", func(c *webhook.Config) { c.URL = "http://[::1]:80/" }, ""},
		{"unverified", func(c *webhook.Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} }, "InsecureSkipVerify"},
		{"old TLS", func(c *webhook.Config) { c.TLS = &tls.Config{MaxVersion: tls.VersionTLS11} }, "MaxVersion"},
		{"no recipient", func(c *webhook.Config) { c.Recipient = "" }, "Config.Recipient"},
		{"a recipient with a name", func(c *webhook.Config) { c.Recipient = "Acme Inc." }, "Config.Recipient"},
		{"a short secret", func(c *webhook.Config) { c.Secret = secret[:31] }, "Config.Secret"},
		{"no format", func(c *webhook.Config) { c.Encoder = format.Encoder{Format: "xml"} }, "Config.Encoder"},
	} {
		cfg := good
		tt.change(&cfg)
		_, err := webhook.New(cfg)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), "pw") || strings.Contains(err.Error(), "Acme")) {
			t.Errorf("%s: the error quotes it: %v", tt.name, err)
		}
	}
}

// A receiver with another certificate gets nothing.
func TestAnUnverifiedReceiverGetsNothing(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	cfg := r.config()
	cfg.TLS = nil
	s, err := webhook.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	n, err := s.Deliver(ctx, []audit.Line{line()})
	if n != 0 || err == nil || errors.Is(err, sink.ErrPoison) || r.posts > 0 {
		t.Errorf("%d accepted, %v, %d posts arrived", n, err, r.posts)
	}
	if strings.Contains(err.Error(), r.t.URL) {
		t.Errorf("the error quotes the URL: %v", err)
	}
}
