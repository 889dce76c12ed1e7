// SPDX-License-Identifier: Apache-2.0

package syslog_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/sink/syslog"
	"github.com/part164/part164/audit/sinktest"
)

// An rsyslog is Debian's, with TLS, in a folder of its own on a loopback port.
type rsyslog struct {
	pair pair
	dir  string
	addr string

	mu  sync.Mutex
	cmd *exec.Cmd
}

// rsyslogd returns the program, or skips the test where it or its TLS driver
// is missing.
func rsyslogd(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("rsyslogd")
	if err != nil {
		path = "/usr/sbin/rsyslogd"
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("rsyslog is not installed")
	}
	if drivers, _ := filepath.Glob("/usr/lib/*/rsyslog/lmnsd_ossl.so"); len(drivers) == 0 {
		t.Skip("rsyslog-openssl is not installed")
	}
	return path
}

func newRsyslog(t testing.TB) *rsyslog {
	t.Helper()
	rsyslogd(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rsyslog{pair: newPair(t), dir: t.TempDir(), addr: ln.Addr().String()}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(r.addr)
	conf := fmt.Sprintf(`global(workDirectory=%[1]q DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile=%[2]q
  DefaultNetstreamDriverCertFile=%[2]q DefaultNetstreamDriverKeyFile=%[3]q)
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
template(name="raw" type="string" string="%%rawmsg%%\n")
ruleset(name="audit") { action(type="omfile" file=%[4]q template="raw") }
input(type="imtcp" address="127.0.0.1" port=%[5]q ruleset="audit")
`, r.dir, r.pair.files[0], r.pair.files[1], r.log(), port)
	if err := os.WriteFile(filepath.Join(r.dir, "rsyslog.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	r.up(t)
	t.Cleanup(func() { r.down(syscall.SIGKILL) })
	return r
}

func (r *rsyslog) log() string { return filepath.Join(r.dir, "audit.log") }

func (r *rsyslog) up(t testing.TB) {
	t.Helper()
	pid := filepath.Join(r.dir, "pid")
	_ = os.Remove(pid)
	var out bytes.Buffer
	cmd := exec.Command(rsyslogd(t), "-n", "-f", filepath.Join(r.dir, "rsyslog.conf"), "-i", pid)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.cmd = cmd
	r.mu.Unlock()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			r.down(syscall.SIGKILL)
			t.Fatalf("rsyslog does not listen: %s", out.String())
		}
	}
}

func (r *rsyslog) down(signal syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
		return
	}
	if err := r.cmd.Process.Signal(signal); err == nil || errors.Is(err, os.ErrProcessDone) {
		_ = r.cmd.Wait()
	}
	r.cmd = nil
}

// received reads rsyslog's file. A last line without its newline is one that
// it is writing, or that a kill has cut.
func (r *rsyslog) received(t testing.TB) []sink.Copy {
	t.Helper()
	text, err := os.ReadFile(r.log())
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	var all assembly
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// After a kill the rest of a line may stand before the next one: it
		// came again.
		if err := all.add(lines.Text()); err != nil {
			t.Logf("passed over: %.120s", err)
		}
	}
	return all.got
}

// TestRsyslog: Debian's rsyslog over TLS, stopped and killed in mid-stream.
func TestRsyslog(t *testing.T) {
	t.Parallel()
	rsyslogd(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			sinktest.TestSink(t, audittest.Dir, func(t testing.TB) *sinktest.Target {
				r := newRsyslog(t)
				return &sinktest.Target{
					Open: func(t testing.TB) sink.Sink {
						s, err := syslog.New(syslog.Config{Address: r.addr, Recipient: "soc", TLS: &tls.Config{RootCAs: r.pair.roots}})
						if err != nil {
							t.Fatal(err)
						}
						return s
					},
					Received: r.received,
					Down: func(t testing.TB, down bool) {
						if down {
							r.down(signal)
						} else {
							r.up(t)
						}
					},
				}
			})
		})
	}
}
