// SPDX-License-Identifier: Apache-2.0

// Package webhook posts a journal's events to an HTTPS endpoint.
//
// A request is a POST of one document a line (application/x-ndjson), or with
// Config.Single of one document. Its headers:
//
//	Part164-Signature: t=1700000000,v1=5257a8…
//	Idempotency-Key: "j0f…/17-42"
//
// v1 is the HMAC-SHA256, in hex, of the time, a full stop and the body, under
// the shared secret; [Verify] checks it. The key names the writer and the first
// and last sequence of the request.
//
// The receiver answers 2xx once it has the events for good. 413 and 422 refuse an
// event whatever may happen: it is found, and parked. Other answers of 4xx
// refuse the event, or everything, such as 400 and 403: it is found, and parked
// if the receiver takes later ones; until then all wait. 401, 404, 405, 407,
// 408, 410, 425, 429 and 5xx mean later, for everything; redirections are not
// followed.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/format"
	"github.com/part164/part164/audit/sink"
)

const (
	signatureHeader = "Part164-Signature"
	keyHeader       = "Idempotency-Key"

	minSecret = 32 // bytes: as long as the hash (RFC 2104 section 3)
)

// Config configures [New]. The zero value of every field but URL, Recipient
// and Secret is the production setting.
type Config struct {
	// URL is where events are posted: https, or http to a loopback address.
	URL string

	// Recipient is the opaque ID of who runs the receiver. Required.
	Recipient string

	// Secret is shared with the receiver: at least 32 random bytes.
	Secret []byte

	// TLS configures the connection, a client certificate for instance; nil
	// verifies the receiver by the system's roots.
	TLS *tls.Config

	// Single posts one document a request.
	Single bool

	// Name tells the sinks of a journal apart. Empty means "webhook".
	Name string

	// Encoder makes the documents. The zero Encoder is native JSON.
	Encoder format.Encoder

	// Now stamps the signature; nil means time.Now.
	Now func() time.Time
}

// A Sink posts events. Make it with [New].
type Sink struct {
	cfg    Config
	client *http.Client
}

var _ sink.Sink = (*Sink)(nil)

// New returns the sink, or names the bad field of cfg.
func New(cfg Config) (*Sink, error) {
	fail := func(err error) (*Sink, error) { return nil, fmt.Errorf("audit: webhook sink: %w", err) }
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fail(errors.New("Config.URL is not an https URL"))
	}
	if u.User != nil {
		return fail(errors.New("Config.URL holds a password: the signature serves instead"))
	}
	if err := sink.CheckTransport(u.Host, u.Scheme == "https", cfg.TLS); err != nil {
		return fail(fmt.Errorf("Config.URL: %w", err))
	}
	if err := sink.CheckRecipient(cfg.Recipient); err != nil {
		return fail(err)
	}
	if len(cfg.Secret) < minSecret {
		return fail(fmt.Errorf("Config.Secret is shorter than %d bytes", minSecret))
	}
	if err := cfg.Encoder.Check(); err != nil {
		return fail(fmt.Errorf("Config.Encoder: %w", err))
	}
	if cfg.Name == "" {
		cfg.Name = "webhook"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Secret = bytes.Clone(cfg.Secret)
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg.TLS.Clone(), ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 1,
	}
	return &Sink{cfg, &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Name implements [sink.Sink].
func (s *Sink) Name() string { return s.cfg.Name }

// Recipient implements [sink.Sink].
func (s *Sink) Recipient() string { return s.cfg.Recipient }

// Close lets go of idle connections.
func (s *Sink) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// Deliver implements [sink.Sink].
func (s *Sink) Deliver(ctx context.Context, lines []audit.Line) (accepted int, err error) {
	if !s.cfg.Single {
		return s.deliver(ctx, lines)
	}
	for i := range lines {
		if _, err := s.deliver(ctx, lines[i:i+1]); err != nil {
			return i, err
		}
	}
	return len(lines), nil
}

// deliver posts the lines together. Where the receiver refuses them for good it
// halves them, until the one that it refuses is alone.
func (s *Sink) deliver(ctx context.Context, lines []audit.Line) (accepted int, err error) {
	if len(lines) == 0 {
		return 0, nil
	}
	err = s.post(ctx, lines)
	if err == nil {
		return len(lines), nil
	}
	if !errors.Is(err, sink.ErrPoison) && !errors.Is(err, sink.ErrRefused) || len(lines) == 1 {
		return 0, err
	}
	half := len(lines) / 2
	if accepted, err = s.deliver(ctx, lines[:half]); err != nil {
		return accepted, err
	}
	more, err := s.deliver(ctx, lines[half:])
	return accepted + more, err
}

func (s *Sink) post(ctx context.Context, lines []audit.Line) error {
	var body []byte
	var err error
	for i := range lines {
		if body, err = s.cfg.Encoder.Append(body, lines[i]); err != nil {
			return fmt.Errorf("%w: %w", sink.ErrPoison, err)
		}
	}
	if len(body) == 0 { // no document in this format
		return nil
	}
	kind := "application/x-ndjson"
	if s.cfg.Single && bytes.Count(body, []byte{'\n'}) == 1 {
		body, kind = bytes.TrimSuffix(body, []byte{'\n'}), s.cfg.Encoder.Format.ContentType()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook sink: %w", err)
	}
	first, last := lines[0].Position, lines[len(lines)-1].Position
	req.Header.Set("Content-Type", kind)
	req.Header.Set("User-Agent", "part164")
	req.Header.Set(keyHeader, fmt.Sprintf("%q", fmt.Sprintf("%s/%d-%d", first.Writer, first.Seq, last.Seq)))
	stamp := strconv.FormatInt(s.cfg.Now().Unix(), 10)
	req.Header.Set(signatureHeader, "t="+stamp+",v1="+hex.EncodeToString(sign(s.cfg.Secret, stamp, body)))
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("webhook sink: post: %w", bare(err))
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return fmt.Errorf("webhook sink: the receiver answers %d: redirections are not followed", code)
	case code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: it answers %d", sink.ErrPoison, code)
	case code >= 400 && code < 500 && !ofTheReceiver(code):
		return fmt.Errorf("%w: it answers %d", sink.ErrRefused, code)
	default:
		return fmt.Errorf("webhook sink: the receiver answers %d", code)
	}
}

// ofTheReceiver reports whether a status of 4xx is about the sender's rights,
// the way there or the time (RFC 9110, 6585, 8470), whatever is sent.
func ofTheReceiver(code int) bool {
	switch code {
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusProxyAuthRequired,
		http.StatusRequestTimeout, http.StatusGone, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return false
}

// bare returns err without the URL, whose query may hold a token.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func sign(secret []byte, stamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(stamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return mac.Sum(nil)
}

// ErrSignature means that a request was not signed by who has the secret, or
// too long ago.
var ErrSignature = errors.New("audit: webhook: the signature does not verify")

// Verify is for receivers written in Go: it checks the signature of a request
// with this header and body. within bounds how far its time may be from now, so
// that a request which somebody copied cannot be posted again; zero means 5
// minutes. The error wraps [ErrSignature].
func Verify(header http.Header, body, secret []byte, now time.Time, within time.Duration) error {
	if within == 0 {
		within = 5 * time.Minute
	}
	if len(secret) < minSecret {
		return fmt.Errorf("%w: the secret is shorter than %d bytes", ErrSignature, minSecret)
	}
	stamp, rest, ok := strings.Cut(strings.TrimPrefix(header.Get(signatureHeader), "t="), ",v1=")
	if !ok {
		return fmt.Errorf("%w: there is none", ErrSignature)
	}
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: it has no time", ErrSignature)
	}
	mac, err := hex.DecodeString(rest)
	if err != nil || !hmac.Equal(mac, sign(secret, stamp, body)) {
		return ErrSignature
	}
	if d := now.Sub(time.Unix(at, 0)); d > within || d < -within {
		return fmt.Errorf("%w: it is too old, or from the future", ErrSignature)
	}
	return nil
}
