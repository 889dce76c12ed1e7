// SPDX-License-Identifier: Apache-2.0

// Package syslog sends a journal's events to a syslog receiver: RFC 5424
// messages in the octet-counting frames of RFC 5425, over TLS.
//
// The protocol has no acknowledgement: a message is accepted when it is on its
// way. What the receiver had not read when it went down would be lost, so
// after each reconnection, and when the sink is opened again, the last messages
// are sent again, Config.Resend of them; the receiver sees repetitions, which
// have the same structured data, and what it had taken beyond those is gone.
// Hold what it has against the journal (sink.Compare, auditctl compare), or use
// a sink that acknowledges.
//
// A message carries the writer, the sequence and the leaf hash of its event as
// structured data, the event's type as MSGID, and the document as MSG. One that
// is longer than Config.MaxMessage is sent in parts, numbered in the structured
// data: receivers cut what is longer than they like, and rsyslog does so at
// 8 KiB unless told otherwise.
package syslog

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/format"
	"github.com/part164/part164/audit/sink"
)

const (
	facility = 13 // log audit, RFC 5424 section 6.2.1

	// example is the enterprise number that RFC 5612 sets aside for examples.
	example = 32473

	// defaultMessage is what every receiver should take (RFC 5425 section 4.3.1).
	defaultMessage = 8192
	minMessage     = 1024

	drain = 5 * time.Second // what Close gives the receiver to read the rest
)

// Config configures [New]. The zero value of every field but Address and
// Recipient is the production setting.
type Config struct {
	// Address is the receiver, host:port. Required. The port of syslog over
	// TLS is 6514.
	Address string

	// Recipient is the opaque ID of who runs the receiver. Required.
	Recipient string

	// TLS configures the connection; nil verifies the receiver's certificate
	// by the system's roots and the name in Address.
	TLS *tls.Config

	// Plain sends without TLS, which is allowed to a loopback address only.
	Plain bool

	// Name tells the sinks of a journal apart. Empty means "syslog".
	Name string

	// Encoder makes the documents. The zero Encoder is native JSON.
	Encoder format.Encoder

	// Hostname stands in each message; empty means the machine's name. App
	// stands there as APP-NAME; empty means "part164".
	Hostname, App string

	// Enterprise is your private enterprise number (RFC 5424 section 7.2.2),
	// which makes the name of the structured data unique. Zero means 32473, the
	// number for examples.
	Enterprise int

	// MaxMessage is the length in bytes of the longest message. Zero means
	// 8,192; at least 1,024.
	MaxMessage int

	// Resend is how many messages are sent again after a reconnection, and how
	// many events when the sink is opened again. Zero means 4,096.
	Resend int

	// Log is told of reconnections. Nil is silent.
	Log *zap.Logger
}

// A Sink sends messages. Make it with [New].
type Sink struct {
	cfg  Config
	head string // HOSTNAME SP APP-NAME SP PROCID

	mu     sync.Mutex
	conn   net.Conn
	gone   chan struct{} // closed when conn is known to be down
	last   [][]byte      // what is sent again, oldest first
	quit   chan struct{}
	closed bool
	wait   sync.WaitGroup
}

var _ sink.Rewinder = (*Sink)(nil)

// New returns the sink, or names the bad field of cfg. It connects when there
// is something to send.
func New(cfg Config) (*Sink, error) {
	fail := func(err error) (*Sink, error) { return nil, fmt.Errorf("audit: syslog sink: %w", err) }
	if _, _, err := net.SplitHostPort(cfg.Address); err != nil {
		return fail(errors.New("Config.Address is not host:port"))
	}
	if err := sink.CheckTransport(cfg.Address, !cfg.Plain, cfg.TLS); err != nil {
		return fail(fmt.Errorf("Config.Address: %w", err))
	}
	if err := sink.CheckRecipient(cfg.Recipient); err != nil {
		return fail(err)
	}
	if err := cfg.Encoder.Check(); err != nil {
		return fail(fmt.Errorf("Config.Encoder: %w", err))
	}
	if cfg.Name == "" {
		cfg.Name = "syslog"
	}
	if cfg.App == "" {
		cfg.App = "part164"
	}
	if cfg.Hostname == "" {
		cfg.Hostname, _ = os.Hostname()
		if !isPrint(cfg.Hostname, 255) {
			cfg.Hostname = "-" // RFC 5424's NILVALUE
		}
	}
	if cfg.Enterprise == 0 {
		cfg.Enterprise = example
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = defaultMessage
	}
	if cfg.Resend == 0 {
		cfg.Resend = 4096
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	switch {
	case !isPrint(cfg.Hostname, 255):
		return fail(errors.New("Config.Hostname is not 1 to 255 printable ASCII characters"))
	case !isPrint(cfg.App, 48):
		return fail(errors.New("Config.App is not 1 to 48 printable ASCII characters"))
	case cfg.Enterprise < 0:
		return fail(errors.New("Config.Enterprise is negative"))
	case cfg.MaxMessage < minMessage:
		return fail(fmt.Errorf("Config.MaxMessage is under %d", minMessage))
	case cfg.Resend < 0:
		return fail(errors.New("Config.Resend is negative"))
	}
	head := cfg.Hostname + " " + cfg.App + " " + strconv.Itoa(os.Getpid())
	return &Sink{cfg: cfg, head: head, quit: make(chan struct{})}, nil
}

// Name implements [sink.Sink].
func (s *Sink) Name() string { return s.cfg.Name }

// Recipient implements [sink.Sink].
func (s *Sink) Recipient() string { return s.cfg.Recipient }

// Rewind implements [sink.Rewinder].
func (s *Sink) Rewind() int { return s.cfg.Resend }

// Deliver implements [sink.Sink].
func (s *Sink) Deliver(ctx context.Context, lines []audit.Line) (accepted int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errors.New("syslog sink: it is closed")
	}
	var poison error
	var frames [][]byte
	good := 0
	for i := range lines {
		made, err := s.frames(&lines[i])
		if err != nil {
			poison = fmt.Errorf("%w: %w", sink.ErrPoison, err)
			break
		}
		frames = append(frames, made...)
		good++
	}
	if err := s.connect(ctx); err != nil {
		return 0, err
	}
	if err := s.write(ctx, frames); err != nil {
		return 0, err
	}
	s.keep(frames)
	return good, poison
}

// Close waits for the receiver to read what was sent, for at most 5 seconds.
// What it has not read by then comes again when the sink is opened again.
func (s *Sink) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.quit)
	conn, gone := s.conn, s.gone
	s.conn = nil
	s.mu.Unlock()
	if conn != nil {
		read := false
		if c, ok := conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
			t := time.NewTimer(drain)
			select {
			case <-gone: // it has read everything, and closed
				read = true
			case <-t.C:
			}
			t.Stop()
		}
		if err := conn.Close(); !read {
			s.cfg.Log.Warn("audit: syslog sink: the receiver may not have read the last messages: they are sent again when the sink is opened again", zap.Error(err))
		}
	}
	s.wait.Wait()
	return nil
}

// connect makes a connection where there is none, and sends again on it what
// the last one may have lost. s.mu is held.
func (s *Sink) connect(ctx context.Context) error {
	if s.conn != nil {
		select {
		case <-s.gone:
			s.drop()
		default:
			return nil
		}
	}
	d := &net.Dialer{Timeout: 10 * time.Second}
	var conn net.Conn
	var err error
	if s.cfg.Plain {
		conn, err = d.DialContext(ctx, "tcp", s.cfg.Address)
	} else {
		conn, err = (&tls.Dialer{NetDialer: d, Config: s.cfg.TLS}).DialContext(ctx, "tcp", s.cfg.Address)
	}
	if err != nil {
		return fmt.Errorf("syslog sink: connect: %w", err)
	}
	gone := make(chan struct{})
	s.conn, s.gone = conn, gone
	s.wait.Go(func() { s.watch(conn, gone) })
	if len(s.last) > 0 {
		s.cfg.Log.Warn("audit: syslog sink: connected again: the last messages are sent once more", zap.Int("messages", len(s.last)))
	}
	return s.write(ctx, s.last)
}

// watch reads from conn, where a receiver sends nothing, until it is down. A
// receiver that goes while nothing is to be sent gets the last messages as
// soon as it is back.
func (s *Sink) watch(conn net.Conn, gone chan struct{}) {
	_, _ = io.Copy(io.Discard, conn)
	close(gone)
	for {
		select {
		case <-s.quit:
			return
		case <-time.After(time.Second):
		}
		s.mu.Lock()
		if s.conn != nil && s.conn != conn || s.closed { // somebody was faster
			s.mu.Unlock()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := s.connect(ctx)
		cancel()
		s.mu.Unlock()
		if err == nil {
			return
		}
	}
}

func (s *Sink) drop() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// write sends frames; s.mu is held.
func (s *Sink) write(ctx context.Context, frames [][]byte) error {
	if len(frames) == 0 {
		return nil
	}
	deadline, _ := ctx.Deadline()
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		s.drop()
		return fmt.Errorf("syslog sink: %w", err)
	}
	conn := s.conn // which Close takes away
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := bytes.Join(frames, nil)
	if _, err := s.conn.Write(buf); err != nil {
		s.drop()
		return fmt.Errorf("syslog sink: send: %w", err)
	}
	return nil
}

// keep remembers frames for the next connection.
func (s *Sink) keep(frames [][]byte) {
	s.last = append(s.last, frames...)
	if n := len(s.last) - s.cfg.Resend; n > 0 {
		s.last = append([][]byte(nil), s.last[n:]...)
	}
}

// frames returns the messages of a line, framed.
func (s *Sink) frames(l *audit.Line) ([][]byte, error) {
	text, err := s.cfg.Encoder.Append(nil, *l)
	if err != nil {
		return nil, err
	}
	var docs [][]byte
	for doc := range bytes.Lines(text) {
		doc = bytes.TrimSuffix(doc, []byte{'\n'})
		for room := s.cfg.MaxMessage - 700; len(doc) > room; doc = doc[room:] { // 700 bounds what stands before it
			docs = append(docs, doc[:room])
		}
		docs = append(docs, doc)
	}
	out := make([][]byte, len(docs))
	for i, doc := range docs {
		msg := s.message(l, doc, i+1, len(docs))
		frame := strconv.AppendInt(make([]byte, 0, len(msg)+8), int64(len(msg)), 10)
		frame = append(frame, ' ')
		out[i] = append(frame, msg...)
	}
	return out, nil
}

// message returns <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [SD] MSG.
func (s *Sink) message(l *audit.Line, doc []byte, part, parts int) []byte {
	b := make([]byte, 0, len(doc)+512)
	b = append(b, '<')
	b = strconv.AppendInt(b, facility*8+severity(l), 10)
	b = append(b, ">1 "...)
	b = l.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, ' ')
	b = append(b, s.head...)
	b = append(b, ' ')
	id := string(l.Type)
	if !isPrint(id, 32) {
		id = "-"
	}
	b = append(b, id...)
	b = append(b, " [part164@"...)
	b = strconv.AppendInt(b, int64(s.cfg.Enterprise), 10)
	b = param(b, "writer", l.Position.Writer)
	b = param(b, "seq", strconv.FormatUint(l.Position.Seq, 10))
	b = param(b, "leaf", base64.RawURLEncoding.EncodeToString(l.Leaf[:]))
	if parts > 1 {
		b = param(b, "part", strconv.Itoa(part))
		b = param(b, "parts", strconv.Itoa(parts))
	}
	b = append(b, "] "...)
	return append(b, doc...)
}

// param adds an SD-PARAM; RFC 5424 section 6.3.3 says what is escaped.
func param(b []byte, name, value string) []byte {
	b = append(b, ' ')
	b = append(b, name...)
	b = append(b, `="`...)
	for i := range len(value) {
		if c := value[i]; c == '"' || c == '\\' || c == ']' {
			b = append(b, '\\')
		}
		b = append(b, value[i])
	}
	return append(b, '"')
}

// severity is that of RFC 5424: 4 warning, 5 notice.
func severity(l *audit.Line) int64 {
	if l.Outcome != audit.Success || l.Purpose == access.BreakGlass {
		return 4
	}
	return 5
}

// isPrint reports whether s is 1 to n characters of PRINTUSASCII.
func isPrint(s string, n int) bool {
	if s == "" || len(s) > n {
		return false
	}
	for i := range len(s) {
		if s[i] < 33 || s[i] > 126 {
			return false
		}
	}
	return true
}
