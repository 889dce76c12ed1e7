// SPDX-License-Identifier: Apache-2.0

package syslog_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/audit/sink"
)

// A pair is a self-signed certificate for 127.0.0.1 and its key.
type pair struct {
	cert  tls.Certificate
	roots *x509.CertPool
	files [2]string // PEM: certificate, key
}

func newPair(t testing.TB) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "syslog"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := pair{cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots: x509.NewCertPool()}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p.roots.AddCert(parsed)
	dir := t.TempDir()
	for i, b := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: keyDER}} {
		p.files[i] = filepath.Join(dir, strconv.Itoa(i)+".pem")
		if err := os.WriteFile(p.files[i], pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// An assembly puts the messages of a stream together again: each is an event,
// or a part of one.
type assembly struct {
	parts map[string][]string
	got   []sink.Copy
	msgs  []message
}

type message struct {
	pri, version           int
	time, host, app, msgid string
	data                   map[string]string
	text                   string
}

var (
	// RFC 5424: HEADER SP STRUCTURED-DATA SP MSG.
	header = regexp.MustCompile(`^<(\d{1,3})>(\d{1,2}) (\S+) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) \[part164@(\d+)((?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")*)\] (.*)$`)
	params = regexp.MustCompile(` ([a-z]+)="((?:[^"\\\]]|\\["\\\]])*)"`)
)

func parse(text string) (message, error) {
	m := header.FindStringSubmatch(text)
	if m == nil {
		return message{}, fmt.Errorf("no RFC 5424 message: %.300q", text)
	}
	pri, _ := strconv.Atoi(m[1])
	version, _ := strconv.Atoi(m[2])
	if _, err := time.Parse(time.RFC3339Nano, m[3]); err != nil {
		return message{}, err
	}
	out := message{pri: pri, version: version, time: m[3], host: m[4], app: m[5], msgid: m[7], data: make(map[string]string), text: m[10]}
	for _, p := range params.FindAllStringSubmatch(m[9], -1) {
		out.data[p[1]] = strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\]`, `]`).Replace(p[2])
	}
	return out, nil
}

func (a *assembly) add(text string) error {
	m, err := parse(text)
	if err != nil {
		return err
	}
	a.msgs = append(a.msgs, m)
	doc := m.text
	if n, _ := strconv.Atoi(m.data["parts"]); n > 1 {
		if a.parts == nil {
			a.parts = make(map[string][]string)
		}
		k, _ := strconv.Atoi(m.data["part"])
		key := m.data["writer"] + "/" + m.data["seq"]
		if k == 1 {
			a.parts[key] = nil
		}
		if len(a.parts[key]) != k-1 {
			return nil // the rest of one whose beginning was lost: it comes again
		}
		a.parts[key] = append(a.parts[key], doc)
		if k < n {
			return nil
		}
		doc = strings.Join(a.parts[key], "")
		delete(a.parts, key)
	}
	c, err := sink.ReadCopy([]byte(doc))
	if err != nil {
		return err
	}
	if strconv.FormatUint(c.Seq, 10) != m.data["seq"] || c.Writer != m.data["writer"] {
		return fmt.Errorf("the structured data name %s/%s, the document %s/%d", m.data["writer"], m.data["seq"], c.Writer, c.Seq)
	}
	a.got = append(a.got, c)
	return nil
}

// A receiver is a syslog server over TLS in this process.
type receiver struct {
	pair pair
	addr string

	mu    sync.Mutex
	ln    net.Listener
	conns map[net.Conn]bool
	all   assembly
	delay time.Duration
	lose  int
	err   error
	frame int // the longest message
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{pair: newPair(t), addr: "127.0.0.1:0", conns: make(map[net.Conn]bool)}
	r.up(t)
	t.Cleanup(func() {
		r.down()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.err != nil {
			t.Error(r.err)
		}
	})
	return r
}

func (r *receiver) up(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.ln, r.addr = ln, ln.Addr().String()
	r.mu.Unlock()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			if r.ln != ln { // went down meanwhile
				r.mu.Unlock()
				_ = c.Close()
				continue
			}
			r.conns[c] = true
			r.mu.Unlock()
			go r.serve(c)
		}
	}()
}

// down closes everything at once: what was not read yet is lost.
func (r *receiver) down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ln != nil {
		_ = r.ln.Close()
		r.ln = nil
	}
	for c := range r.conns {
		if tc, ok := c.(*net.TCPConn); ok {
			_ = tc.SetLinger(0)
		}
		_ = c.Close()
		delete(r.conns, c)
	}
}

func (r *receiver) serve(c net.Conn) {
	conn := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{r.pair.cert}})
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		text, err := readFrame(in)
		if err != nil {
			return
		}
		r.mu.Lock()
		delay := r.delay
		r.delay = 0
		r.mu.Unlock()
		time.Sleep(delay)
		r.mu.Lock()
		if r.ln == nil {
			r.mu.Unlock()
			return
		}
		r.frame = max(r.frame, len(text))
		if r.lose > 0 {
			r.lose--
		} else if err := r.all.add(text); err != nil {
			r.err = err
		}
		r.mu.Unlock()
	}
}

// readFrame reads MSG-LEN SP SYSLOG-MSG of RFC 5425.
func readFrame(in *bufio.Reader) (string, error) {
	size, err := in.ReadString(' ')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(size, " "))
	if err != nil || n < 1 || n > 1<<20 || size[0] == '0' {
		return "", fmt.Errorf("frame of length %q", size)
	}
	text := make([]byte, n)
	_, err = io.ReadFull(in, text)
	return string(text), err
}
