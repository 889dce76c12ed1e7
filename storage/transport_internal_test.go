// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
)

// The transport of drivers as they are built: what they show, they show in
// unexported fields, in a field of a field, or under another driver.
type (
	driverConn struct {
		closed           atomic.Bool
		netConn, rawConn net.Conn
		self             *driverConn
	}
	deepConn struct {
		driver.Conn
		inner struct{ pg *driverConn }
	}
)

func (d *driverConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("prepares nothing") }
func (d *driverConn) Close() error                        { d.closed.Store(true); return nil }
func (d *driverConn) Begin() (driver.Tx, error)           { return d, nil }
func (d *driverConn) ResetSession(context.Context) error  { return nil }  // with IsValid, a cancelled transaction
func (d *driverConn) IsValid() bool                       { return true } // keeps its connection
func (d *driverConn) Commit() error                       { return nil }
func (d *driverConn) Rollback() error                     { return nil }
func (d *driverConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(0), nil
}
func (d *driverConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return noRows{}, nil
}

type noRows struct{}

func (noRows) Columns() []string         { return []string{"n"} }
func (noRows) Close() error              { return nil }
func (noRows) Next([]driver.Value) error { return io.EOF }

// remote is a connection to another machine.
type remote struct{ net.Conn }

func (remote) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5432} }

type local struct{ net.Conn }

func (local) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv6loopback, Port: 5432} }

type socket struct{ net.Conn }

func (socket) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "/run/db", Net: "unix"} }

// overTLS returns the client's side of TLS with a server on another machine.
func overTLS(t *testing.T, verify bool) net.Conn {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"db.example"}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	a, b := net.Pipe()
	server := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	client := tls.Client(remote{a}, &tls.Config{ServerName: "db.example", RootCAs: roots, InsecureSkipVerify: !verify})
	if err := errors.Join(client.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return client
}

func TestTransportIsMeasured(t *testing.T) {
	t.Parallel()
	loop := &driverConn{rawConn: remote{}}
	loop.self = loop
	deep := &deepConn{}
	deep.inner.pg = &driverConn{netConn: overTLS(t, true)}
	for name, tt := range map[string]struct {
		conn any
		says string
	}{
		"verified":              {&driverConn{netConn: overTLS(t, true), rawConn: remote{}}, ""},
		"verified, deep":        {deep, ""},
		"loopback":              {&driverConn{netConn: local{}}, ""},
		"socket":                {&driverConn{netConn: socket{}}, ""},
		"plain":                 {&driverConn{netConn: remote{}}, "192.0.2.7:5432 is neither TLS nor"},
		"plain beside loopback": {&driverConn{netConn: local{}, rawConn: remote{}}, "refused"},
		"not verified":          {&driverConn{netConn: overTLS(t, false), rawConn: remote{}}, "not verified"},
		"before the handshake":  {&driverConn{netConn: tls.Client(remote{}, &tls.Config{})}, "not verified"},
		"in a ring":             {loop, "refused"},
		"not a pointer":         {struct{ c net.Conn }{local{}}, "no network connection"},
		"nothing":               {nil, "no network connection"},
		"not connected":         {&driverConn{netConn: (*net.TCPConn)(nil)}, "no network connection"},
	} {
		err := checkTransport(tt.conn)
		if tt.says == "" && err != nil || tt.says != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
}

func TestSQLiteIsInThisProcess(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Raw(func(dc any) error {
		return errors.Join(checkInProcess(dc), checkInProcess(&struct{ traced any }{dc}))
	}); err != nil {
		t.Errorf("SQLite of this process: %v", err)
	}
	for _, far := range []any{&driverConn{netConn: remote{}}, &struct{ token string }{}, nil} {
		if err := checkInProcess(far); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), citationTransport) {
			t.Errorf("a %T passes for SQLite of this process: %v", far, err)
		}
	}
}

// connections hands out what is set.
type connections struct{ next atomic.Pointer[driverConn] }

func (c *connections) Connect(context.Context) (driver.Conn, error) { return c.next.Load(), nil }
func (c *connections) Driver() driver.Driver                        { return nil }

// No statement runs on a connection that was not measured, however old the
// pool is, and each gives its connection back.
func TestEveryStatementIsOnAMeasuredConnection(t *testing.T) {
	t.Parallel()
	c := &connections{}
	good, bad := &driverConn{netConn: local{}}, &driverConn{netConn: remote{}}
	c.next.Store(good)
	v := newVerifiedDB(sql.OpenDB(c))
	v.SetMaxOpenConns(1)
	var n int
	for name, run := range map[string]func(ctx context.Context) error{
		"exec": func(ctx context.Context) error { _, err := v.ExecContext(ctx, "x"); return err },
		"query": func(ctx context.Context) error {
			rows, err := v.QueryContext(ctx, "x")
			if err != nil {
				return err
			}
			return rows.Close()
		},
		"row": func(ctx context.Context) error {
			if err := v.QueryRowContext(ctx, "x").Scan(&n); !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			return nil
		},
		"commit": func(ctx context.Context) error {
			tx, err := v.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			return tx.(gorm.Tx).Commit()
		},
		"rollback": func(ctx context.Context) error {
			tx, err := v.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			return tx.(gorm.Tx).Rollback()
		},
		"abandoned transaction": func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			_, err := v.BeginTx(ctx, nil)
			return err
		},
	} {
		c.next.Store(good)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // for a connection that never comes back
		for range 3 {
			if err := run(ctx); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		c.next.Store(bad)
		idle, err := v.DB.Conn(ctx) // waits until it has come back
		if err != nil {
			t.Fatal(name, err)
		}
		if err := idle.Close(); err != nil {
			t.Fatal(err)
		}
		v.SetMaxIdleConns(-1)
		v.SetMaxIdleConns(2)
		if err := run(ctx); !errors.Is(err, ErrRefused) {
			t.Errorf("%s on a plain connection: %v, want it refused", name, err)
		}
		v.SetMaxIdleConns(-1)
		v.SetMaxIdleConns(2)
		cancel()
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}
