// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/sink/natsink"
	"github.com/part164/part164/audit/sinktest"
)

// A natsServer is one in this process, with TLS and a stream on the disk.
type natsServer struct {
	dir   string
	port  int
	tls   *tls.Config
	roots *x509.CertPool
	limit int32 // of a message
	store jetstream.StorageType

	mu  sync.Mutex
	srv *server.Server
}

func newNATS(t testing.TB, change func(*natsServer)) *natsServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	n := &natsServer{dir: t.TempDir(), port: -1, roots: x509.NewCertPool(), store: jetstream.FileStorage,
		tls: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	n.roots.AddCert(cert)
	if change != nil {
		change(n)
	}
	n.up(t)
	t.Cleanup(n.down)
	n.do(t, func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: "AUDIT", Subjects: []string{"part164.audit.>"}, Storage: n.store, MaxMsgSize: n.limit,
			Duplicates: 100 * time.Millisecond, // shorter than any outage here: the sink must not rely on it
		})
		return err
	})
	return n
}

func (n *natsServer) url() string { return "tls://127.0.0.1:" + itoa(n.port) }

func itoa(n int) string { return new(big.Int).SetInt64(int64(n)).String() }

func (n *natsServer) up(t testing.TB) {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: n.port, JetStream: true, StoreDir: n.dir, SyncAlways: true, NoLog: true, NoSigs: true, TLS: true, TLSConfig: n.tls, TLSTimeout: 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("NATS does not start")
	}
	n.mu.Lock()
	n.srv, n.port = srv, srv.Addr().(*net.TCPAddr).Port
	n.mu.Unlock()
}

func (n *natsServer) down() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.srv != nil {
		n.srv.Shutdown()
		n.srv.WaitForShutdown()
		n.srv = nil
	}
}

// do asks the server as its owner.
func (n *natsServer) do(t testing.TB, f func(context.Context, jetstream.JetStream) error) {
	t.Helper()
	conn, err := nats.Connect(n.url(), nats.Secure(&tls.Config{RootCAs: n.roots}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := f(ctx, js); err != nil {
		t.Fatal(err)
	}
}

func (n *natsServer) received(t testing.TB) (out []sink.Copy) {
	n.do(t, func(ctx context.Context, js jetstream.JetStream) error {
		stream, err := js.Stream(ctx, "AUDIT")
		if err != nil {
			return err
		}
		info, err := stream.Info(ctx)
		if err != nil {
			return err
		}
		for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
			msg, err := stream.GetMsg(ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			c, err := sink.ReadCopy(msg.Data)
			if err != nil {
				return err
			}
			if got := msg.Header.Get("Nats-Msg-Id"); got != c.Writer+"/"+itoa(int(c.Seq)) {
				t.Errorf("the message of %s.%d has the ID %q", c.Writer, c.Seq, got)
			}
			out = append(out, c)
		}
		return nil
	})
	return out
}

func (n *natsServer) config() natsink.Config {
	return natsink.Config{URL: n.url(), Recipient: "soc", Stream: "AUDIT", TLS: &tls.Config{RootCAs: n.roots}}
}

// onDisk returns a folder for a journal.
func onDisk(t testing.TB) string { return audittest.Dir(t) }

// TestNATSSink is the conformance suite of sinks against an embedded server.
func TestNATSSink(t *testing.T) {
	t.Parallel()
	sinktest.TestSink(t, onDisk, func(t testing.TB) *sinktest.Target {
		n := newNATS(t, nil)
		open := func(t testing.TB) sink.Sink {
			s, err := natsink.New(n.config())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		return &sinktest.Target{
			Once:     true,
			Open:     open,
			Received: n.received,
			Down: func(t testing.TB, down bool) {
				if down {
					n.down()
				} else {
					n.up(t)
				}
			},
		}
	})
}

// TestNATSPoison: an event that the stream does not take is parked alone.
func TestNATSPoison(t *testing.T) {
	t.Parallel()
	n := newNATS(t, func(n *natsServer) { n.limit = 2000 })
	s, err := natsink.New(n.config())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var lines []audit.Line
	for seq := range uint64(3) {
		raw := `{"seq":` + itoa(int(seq)) + `}`
		if seq == 1 {
			raw = `{"seq":1,"x":"` + strings.Repeat("x", 3000) + `"}`
		}
		lines = append(lines, audit.Line{Stored: audit.Stored{ID: "j1." + itoa(int(seq)), Seq: seq, Type: audit.SignIn}, Raw: []byte(raw), Position: audit.Position{Writer: "j1", Seq: seq}})
	}
	if got, err := s.Deliver(t.Context(), lines); got != 1 || !errors.Is(err, sink.ErrPoison) {
		t.Errorf("%d accepted, %v; want 1 and the poison", got, err)
	}
	if got, err := s.Deliver(t.Context(), lines[2:]); got != 1 || err != nil {
		t.Errorf("the next: %d accepted, %v", got, err)
	}
}

// TestNATSLate: an event that was set aside, and comes behind later ones, is in
// the stream; what is there already is not there twice, however often and in
// whatever order it comes again.
func TestNATSLate(t *testing.T) {
	t.Parallel()
	n := newNATS(t, nil)
	var lines []audit.Line
	for seq := range uint64(40) {
		raw := `{"seq":` + itoa(int(seq)) + `}`
		lines = append(lines, audit.Line{Stored: audit.Stored{ID: "j1." + itoa(int(seq)), Seq: seq, Type: audit.SignIn}, Raw: []byte(raw), Position: audit.Position{Writer: "j1", Seq: seq}})
	}
	open := func() *natsink.Sink {
		s, err := natsink.New(n.config())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	deliver := func(s *natsink.Sink, lines ...audit.Line) {
		t.Helper()
		if got, err := s.Deliver(t.Context(), lines); got != len(lines) || err != nil {
			t.Fatalf("%d accepted, %v", got, err)
		}
	}
	s := open()
	deliver(s, lines[:13]...)
	deliver(s, lines[14:20]...)
	deliver(s, lines[21:]...)
	deliver(s, lines[20]) // set aside, and later
	deliver(s, lines[13])
	for _, s := range []*natsink.Sink{s, open()} { // by one that remembers, and after a restart
		time.Sleep(150 * time.Millisecond) // past the stream's own window for duplicates
		deliver(s, lines...)
		deliver(s, lines[13], lines[39], lines[0], lines[20])
	}
	count := make(map[string]int)
	n.do(t, func(ctx context.Context, js jetstream.JetStream) error {
		stream, err := js.Stream(ctx, "AUDIT")
		if err != nil {
			return err
		}
		info, err := stream.Info(ctx)
		if err != nil {
			return err
		}
		for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
			msg, err := stream.GetMsg(ctx, seq)
			if err != nil {
				return err
			}
			count[msg.Header.Get("Nats-Msg-Id")]++
		}
		return nil
	})
	for seq := range 40 {
		if got := count["j1/"+itoa(seq)]; got != 1 {
			t.Errorf("event %d is in the stream %d times", seq, got)
		}
	}
}

// TestNATSRefusesWhatForgets: a stream in memory, another server's
// certificate, and a subject on which somebody else publishes.
func TestNATSRefusesWhatForgets(t *testing.T) {
	t.Parallel()
	line := []audit.Line{{Stored: audit.Stored{ID: "j1.7", Seq: 7, Type: audit.SignIn}, Raw: []byte(`{"seq":7}`), Position: audit.Position{Writer: "j1", Seq: 7}}}
	memory := newNATS(t, func(n *natsServer) { n.store = jetstream.MemoryStorage })
	disk := newNATS(t, nil)
	disk.do(t, func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.Publish(ctx, "part164.audit.j2", []byte("something else"))
		return err
	})
	other := line[0]
	other.Position.Writer = "j2"
	unverified := disk.config()
	unverified.TLS = nil
	missing := disk.config()
	missing.Stream = "NOTHING"
	for name, tt := range map[string]struct {
		cfg  natsink.Config
		line audit.Line
		want string
	}{
		"in memory":        {memory.config(), line[0], "in memory"},
		"unverified":       {unverified, line[0], "connect"},
		"another's stream": {disk.config(), other, "somebody else"},
		"no stream":        {missing, line[0], "NOTHING"},
	} {
		s, err := natsink.New(tt.cfg)
		if err != nil {
			t.Fatal(err)
		}
		n, err := s.Deliver(t.Context(), []audit.Line{tt.line})
		if n != 0 || err == nil || errors.Is(err, sink.ErrPoison) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %d accepted, %v, want %q", name, n, err, tt.want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(disk.dir, "jetstream")); err != nil {
		t.Error(err)
	}
}
