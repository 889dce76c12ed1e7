// SPDX-License-Identifier: Apache-2.0

// Package natsink publishes a journal's events to a NATS JetStream stream.
//
// Each event is one message on the subject Config.Subject, a full stop, and the
// journal's writer; its Nats-Msg-Id is the writer, a slash and the sequence. A message is
// published once the one before is acknowledged, and only if that is still the
// subject's last: order is kept, and the stream holds each event once, also
// after its window for duplicates. An event that was set aside, and comes behind
// later ones, is published on that subject with .late at its end.
//
// The stream is made by who runs NATS, with file storage; make it deny deletes
// and purges. A NATS server acknowledges what is not on the disk yet: by
// default it syncs every two minutes (nats-server issue 7564). Run it with
// jetstream sync_interval: always, or with three replicas, or hold the stream
// against the journal (sink.Compare).
package natsink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/format"
	"github.com/part164/part164/audit/sink"
)

// Config configures [New]. The zero value of every field but URL, Recipient
// and Stream is the production setting.
type Config struct {
	// URL is the server's, or those of a cluster separated by commas:
	// tls://nats.example:4222. Without TLS only loopback addresses are allowed,
	// as nats://127.0.0.1:4222.
	URL string

	// Recipient is the opaque ID of who runs the server. Required.
	Recipient string

	// Stream is the name of the stream, which takes Subject.> in. Required.
	Stream string

	// Subject is the first part of the messages' subject. Empty means
	// "part164.audit".
	Subject string

	// TLS configures the connection; nil verifies the server by the system's
	// roots. It is used for every server that the cluster names.
	TLS *tls.Config

	// Options say how to sign in: nats.UserCredentials for instance.
	Options []nats.Option

	// Name tells the sinks of a journal apart. Empty means "nats".
	Name string

	// Encoder makes the documents. The zero Encoder is native JSON.
	Encoder format.Encoder
}

// A Sink publishes events. Make it with [New].
type Sink struct {
	cfg    Config
	secure bool

	mu     sync.Mutex
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	closed bool
	writer string // whose subject was looked at; empty where none was since the last failure
	last   uint64 // sequence, in the stream, of the last message of its subject
	found  uint64 // the same of the message that was found last
	has    bool   // there is one
	event  uint64 // sequence, in the journal, of its event
}

var _ sink.Sink = (*Sink)(nil)

// New returns the sink, or names the bad field of cfg. It connects when there
// is something to publish.
func New(cfg Config) (*Sink, error) {
	fail := func(err error) (*Sink, error) { return nil, fmt.Errorf("audit: NATS sink: %w", err) }
	secure := true
	for part := range strings.SplitSeq(cfg.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Host == "" || u.Scheme != "tls" && u.Scheme != "nats" {
			return fail(errors.New("Config.URL is not of the form tls://host:port"))
		}
		if u.User != nil {
			return fail(errors.New("Config.URL holds a password: use Config.Options"))
		}
		tlsHere := u.Scheme == "tls" || cfg.TLS != nil
		if err := sink.CheckTransport(u.Host, tlsHere, cfg.TLS); err != nil {
			return fail(fmt.Errorf("Config.URL: %w", err))
		}
		secure = secure && tlsHere
	}
	if err := sink.CheckRecipient(cfg.Recipient); err != nil {
		return fail(err)
	}
	if cfg.Name == "" {
		cfg.Name = "nats"
	}
	if cfg.Subject == "" {
		cfg.Subject = "part164.audit"
	}
	if !isSubject(cfg.Subject) {
		return fail(errors.New("Config.Subject is not words of letters, digits, - and _, with full stops between them"))
	}
	if !isSubject(cfg.Stream) || strings.Contains(cfg.Stream, ".") {
		return fail(errors.New("Config.Stream is empty, or no name of a stream"))
	}
	if err := cfg.Encoder.Check(); err != nil {
		return fail(fmt.Errorf("Config.Encoder: %w", err))
	}
	return &Sink{cfg: cfg, secure: secure}, nil
}

// isSubject reports whether s is a subject without wildcards.
func isSubject(s string) bool {
	for token := range strings.SplitSeq(s, ".") {
		if token == "" {
			return false
		}
		for i := range len(token) {
			c := token[i]
			if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return len(s) <= 200
}

// Name implements [sink.Sink].
func (s *Sink) Name() string { return s.cfg.Name }

// Recipient implements [sink.Sink].
func (s *Sink) Recipient() string { return s.cfg.Recipient }

// Close ends the connection.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	return nil
}

// Deliver implements [sink.Sink].
func (s *Sink) Deliver(ctx context.Context, lines []audit.Line) (accepted int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errors.New("NATS sink: it is closed")
	}
	if err := s.connect(ctx); err != nil {
		return 0, fmt.Errorf("NATS sink: %w", err)
	}
	for i := range lines {
		if err := s.publish(ctx, &lines[i]); err != nil {
			s.writer = "" // look again
			if errors.Is(err, sink.ErrPoison) {
				return i, err
			}
			return i, fmt.Errorf("NATS sink: publish %s: %w", lines[i].ID, err)
		}
	}
	return len(lines), nil
}

func (s *Sink) connect(ctx context.Context) error {
	if s.conn != nil && s.conn.IsConnected() {
		return nil
	}
	if s.conn != nil {
		s.conn.Close()
		s.conn, s.writer = nil, ""
	}
	options := append([]nats.Option{}, s.cfg.Options...)
	// What this package needs comes last, so that no option of the app takes
	// it back. Whether to try again is the pipe's business.
	options = append(options, nats.NoReconnect(), nats.Timeout(5*time.Second), nats.Name("part164"))
	if s.secure {
		cfg := s.cfg.TLS.Clone()
		if cfg == nil {
			cfg = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		options = append(options, nats.Secure(cfg))
	}
	conn, err := nats.Connect(s.cfg.URL, options...)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if _, err := conn.TLSConnectionState(); s.secure && err != nil {
		conn.Close()
		return errors.New("connect: the server speaks no TLS")
	}
	js, err := jetstream.New(conn)
	if err == nil {
		s.stream, err = js.Stream(ctx, s.cfg.Stream)
	}
	if err == nil && s.stream.CachedInfo().Config.Storage != jetstream.FileStorage {
		err = errors.New("it is in memory: make it with file storage")
	}
	if err != nil {
		conn.Close()
		return fmt.Errorf("stream %s: %w", s.cfg.Stream, err)
	}
	s.conn, s.js = conn, js
	return nil
}

// publish adds one event to the stream, unless it is there.
func (s *Sink) publish(ctx context.Context, l *audit.Line) error {
	subject := s.cfg.Subject + "." + l.Position.Writer
	if s.writer != l.Position.Writer {
		if !isSubject(l.Position.Writer) || strings.Contains(l.Position.Writer, ".") {
			return fmt.Errorf("%w: its writer is no part of a subject", sink.ErrPoison)
		}
		if err := s.look(ctx, subject, l.Position.Writer); err != nil {
			return err
		}
	}
	late := s.has && l.Position.Seq <= s.event
	if late {
		if there, err := s.find(ctx, subject, l.Position); there || err != nil {
			return err
		}
		subject += ".late"
		if there, err := s.scan(ctx, subject, l.Position); there || err != nil {
			return err
		}
	}
	text, err := s.cfg.Encoder.Append(nil, *l)
	if err != nil {
		return fmt.Errorf("%w: %w", sink.ErrPoison, err)
	}
	msg := &nats.Msg{Subject: subject, Data: text}
	options := []jetstream.PublishOpt{jetstream.WithMsgID(messageID(l.Position)), jetstream.WithExpectStream(s.cfg.Stream)}
	if !late {
		options = append(options, jetstream.WithExpectLastSequencePerSubject(s.last))
	}
	ack, err := s.js.PublishMsg(ctx, msg, options...)
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload),
		errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return fmt.Errorf("%w: it is larger than the stream takes", sink.ErrPoison)
	case err != nil:
		return err
	case late:
		return nil
	case ack.Duplicate: // the stream has it, and not where we looked
		s.writer = ""
		return nil
	}
	s.last, s.has, s.event = ack.Sequence, true, l.Position.Seq
	return nil
}

// look finds the last message of a writer's subject.
func (s *Sink) look(ctx context.Context, subject, writer string) error {
	msg, err := s.stream.GetLastMsgForSubject(ctx, subject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		s.writer, s.last, s.has, s.event = writer, 0, false, 0
		return nil
	case err != nil:
		return err
	}
	seq, ok := eventOf(msg, writer)
	if !ok {
		return fmt.Errorf("the subject %s has a message that is no event: somebody else publishes there", subject)
	}
	s.writer, s.last, s.has, s.event, s.found = writer, msg.Sequence, true, seq, 0
	return nil
}

func messageID(p audit.Position) string { return p.Writer + "/" + strconv.FormatUint(p.Seq, 10) }

// eventOf returns the journal's sequence of a message.
func eventOf(msg *jetstream.RawStreamMsg, writer string) (seq uint64, ok bool) {
	text, ok := strings.CutPrefix(msg.Header.Get(jetstream.MsgIDHeader), writer+"/")
	seq, err := strconv.ParseUint(text, 10, 64)
	return seq, ok && err == nil
}

// find reports whether the subject, on which the sequences ascend, has the
// event. After a crash events come again in their order: the one behind the
// last that was found is looked at first.
func (s *Sink) find(ctx context.Context, subject string, p audit.Position) (there bool, err error) {
	low, high, at := uint64(1), s.last, s.found+1
	for low <= high {
		if at < low || at > high {
			at = low + (high-low)/2
		}
		msg, err := s.stream.GetMsg(ctx, at, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			high = at - 1
			continue
		}
		if err != nil {
			return false, err
		}
		seq, ok := eventOf(msg, p.Writer)
		switch {
		case !ok:
			return false, fmt.Errorf("the subject %s has a message that is no event: somebody else publishes there", subject)
		case seq == p.Seq:
			s.found = msg.Sequence
			return true, nil
		case seq < p.Seq:
			low = msg.Sequence + 1
		default:
			high = at - 1
		}
		at = low + (high-low)/2
	}
	return false, nil
}

// scan reports whether the subject, which has few messages in any order, has
// the event.
func (s *Sink) scan(ctx context.Context, subject string, p audit.Position) (there bool, err error) {
	for at := uint64(1); ; {
		msg, err := s.stream.GetMsg(ctx, at, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if seq, ok := eventOf(msg, p.Writer); ok && seq == p.Seq {
			return true, nil
		}
		at = msg.Sequence + 1
	}
}
