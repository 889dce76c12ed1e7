// SPDX-License-Identifier: Apache-2.0

// Clinic is a small patient chart, made to be copied: sign-in with a second
// factor, search, chart, edit, and the trail of who saw what.
//
//	go run ./examples/clinic
//
// README.md says what to change before production.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	addr, data, dsn, imports, witness string
	kek, trails                       string
	selfcheck                         bool
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("clinic", flag.ContinueOnError)
	f.StringVar(&o.addr, "addr", "", "`host:port` to listen on (default localhost:8164: both loopback addresses)")
	f.StringVar(&o.data, "data", "data", "`folder` of the database, the journal and, in development, the keys")
	f.StringVar(&o.dsn, "dsn", "", "PostgreSQL `DSN` to use in place of SQLite")
	f.StringVar(&o.imports, "import", "", "import the FHIR R4 JSON files in a `folder`, and stop")
	f.StringVar(&o.kek, "kek", "", "development: `file` of the key that wraps the others, which nodes of one database share (default keys/kek.json in the data folder)")
	f.StringVar(&o.trails, "trails", "", "audit `folders` of the other nodes, with commas between them, for the reports")
	f.StringVar(&o.witness, "witness", "", "`file`, on a disk of other people, for the journal's checkpoints")
	f.BoolVar(&o.selfcheck, "selfcheck", false, "try the whole path over HTTP, verify the journal, print what held, and stop")
	err := f.Parse(args)
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("clinic: unexpected argument %q", f.Arg(0))
	}
	if o.addr == "" {
		o.addr = "localhost:8164"
		if o.selfcheck {
			o.addr = "127.0.0.1:0" // beside one that runs
		}
	}
	return o, err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	ok := false
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err == nil:
		ok, err = run(ctx, o, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// run reports whether all that was asked for went well.
func run(ctx context.Context, o options, out, progress io.Writer) (bool, error) {
	a, err := open(ctx, o)
	if err != nil {
		return false, err
	}
	ok := true
	if o.imports != "" {
		var sum summary
		sum, err = a.importFolder(ctx, a.options.imports, progress)
		fmt.Fprintln(out, sum)
		ok = err == nil && sum.failed == 0
	} else {
		err = a.seed(ctx)
	}
	if err != nil || o.imports != "" && !o.selfcheck {
		return ok, errors.Join(err, a.close())
	}
	served, err := a.serve(o.addr)
	if err != nil {
		return false, errors.Join(err, a.close())
	}
	stop := func() error { return errors.Join(served.stop(), a.close()) }
	if o.selfcheck {
		checks := selfcheck(served.url, o.data, o.imports, stop)
		fmt.Fprint(out, checks)
		return ok && checks.ok(), nil
	}
	if err := a.greet(ctx, out, served.url); err != nil {
		return false, errors.Join(err, stop())
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "stopping")
	case err = <-served.failed:
	}
	return err == nil, errors.Join(err, stop())
}

// A server listens on one or more addresses.
type server struct {
	url    string
	failed chan error
	stop   func() error
}

// listen serves h on addr; on the name localhost that is both loopback
// addresses, and one of them where the machine has only one.
func listen(addr, scheme string, h http.Handler, serve func(*http.Server, net.Listener) error) (*server, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("clinic: -addr: %w", err)
	}
	hosts := []string{host}
	if host == "localhost" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	var listeners []net.Listener
	var refused []error
	for _, h := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(h, port))
		if err != nil {
			refused = append(refused, err)
			continue
		}
		listeners = append(listeners, l)
		_, port, _ = net.SplitHostPort(l.Addr().String()) // port 0: the same one for both
	}
	inUse := len(refused) > 0 && errors.Is(errors.Join(refused...), syscall.EADDRINUSE) // somebody else answers for us there
	if len(listeners) == 0 || inUse {
		for _, l := range listeners {
			_ = l.Close()
		}
		return nil, fmt.Errorf("clinic: listen: %w", errors.Join(refused...))
	}
	s := &server{url: scheme + "://" + net.JoinHostPort(host, port), failed: make(chan error, len(listeners))}
	for _, l := range listeners {
		go func() {
			if err := serve(srv, l); !errors.Is(err, http.ErrServerClosed) {
				s.failed <- fmt.Errorf("clinic: serve: %w", err)
			}
		}()
	}
	s.stop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return srv.Shutdown(ctx)
	}
	return s, nil
}

// isLoopback reports whether a host is this machine.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// in returns a path in the data folder.
func (o options) in(name ...string) string {
	return filepath.Join(append([]string{o.data}, name...)...)
}
