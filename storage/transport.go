// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"gorm.io/gorm"
)

// citationTransport is the standard that a deviation must cite to reach a
// database without verified TLS (45 CFR 164.312(e)(1), transmission security).
const citationTransport = "164.312(e)(1)"

// A verifiedDB is a connection pool that measures each connection before its
// first statement: the DSN says what was asked for, but a failover, a changed
// DNS record or a fallback of the driver decide what came. Measuring asks the
// server nothing.
//
// Only what is prepared may run on a connection that was not measured: the
// plugin prepares nothing that names a PHI table.
type verifiedDB struct {
	*sql.DB

	mu       sync.Mutex
	measured map[any]struct{} // drivers' connections that are as they should be

	lent atomic.Int64  // connections that come back once their rows are closed
	back chan struct{} // one of them has come back
}

func newVerifiedDB(db *sql.DB) *verifiedDB { return &verifiedDB{DB: db, back: make(chan struct{}, 1)} }

// lend gives a connection back once its rows are closed, which Close waits for.
func (v *verifiedDB) lend(c *sql.Conn) {
	v.lent.Add(1)
	go func() {
		_ = c.Close()
		v.lent.Add(-1)
		select {
		case v.back <- struct{}{}:
		default:
		}
	}()
}

// await waits a moment for a connection that is about to come back, where
// another would have to be opened: its rows are closed before lend's goroutine
// has run, and a new one costs more than the moment.
func (v *verifiedDB) await(ctx context.Context) {
	if v.lent.Load() == 0 || v.Stats().Idle > 0 {
		return
	}
	moment := time.NewTimer(5 * time.Millisecond)
	defer moment.Stop()
	select {
	case <-v.back:
	case <-moment.C:
	case <-ctx.Done():
	}
}

var (
	_ gorm.ConnPool         = (*verifiedDB)(nil)
	_ gorm.ConnPoolBeginner = (*verifiedDB)(nil)
	_ gorm.GetDBConnector   = (*verifiedDB)(nil)
	_ gorm.Tx               = (*verifiedTx)(nil)
)

// GetDBConn implements gorm.GetDBConnector.
func (v *verifiedDB) GetDBConn() (*sql.DB, error) { return v.DB, nil }

// conn calls f with a verified connection that nobody else uses. As sql.DB
// does, it goes on to the next one where the driver finds a connection gone
// before it has sent anything.
func (v *verifiedDB) conn(ctx context.Context, f func(*sql.Conn) error) error {
	const tries = 10 // each takes a dead connection out of the pool
	for i := 1; ; i++ {
		v.await(ctx)
		c, err := v.DB.Conn(ctx)
		if err != nil {
			return err
		}
		err = c.Raw(v.measure)
		if err == nil {
			err = f(c)
		}
		if err != nil {
			_ = c.Close() // f keeps none that failed
		}
		if !errors.Is(err, driver.ErrBadConn) || i == tries {
			return err
		}
	}
}

// measure looks at a connection once: the pool never reconnects one.
func (v *verifiedDB) measure(dc any) error {
	if reflect.TypeOf(dc).Kind() == reflect.Pointer {
		v.mu.Lock()
		_, ok := v.measured[dc]
		v.mu.Unlock()
		if ok {
			return nil
		}
	}
	if err := checkTransport(dc); err != nil {
		return err
	}
	most := 2*v.Stats().OpenConnections + 10
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.measured == nil || len(v.measured) > most { // mostly of those that were closed
		v.measured = make(map[any]struct{})
	}
	v.measured[dc] = struct{}{}
	return nil
}

func (v *verifiedDB) ExecContext(ctx context.Context, query string, args ...any) (res sql.Result, err error) {
	err = v.conn(ctx, func(c *sql.Conn) error {
		defer c.Close()
		res, err = c.ExecContext(ctx, query, args...)
		return err
	})
	return res, err
}

func (v *verifiedDB) QueryContext(ctx context.Context, query string, args ...any) (rows *sql.Rows, err error) {
	err = v.conn(ctx, func(c *sql.Conn) error {
		if rows, err = c.QueryContext(ctx, query, args...); err != nil {
			return err
		}
		v.lend(c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func (v *verifiedDB) QueryRowContext(ctx context.Context, query string, args ...any) (row *sql.Row) {
	err := v.conn(ctx, func(c *sql.Conn) error {
		if row = c.QueryRowContext(ctx, query, args...); row.Err() != nil {
			return row.Err()
		}
		v.lend(c)
		return nil
	})
	if err != nil && (row == nil || row.Err() == nil) {
		return v.DB.QueryRowContext(ended(ctx, err), query, args...)
	}
	return row
}

// BeginTx implements gorm.ConnPoolBeginner.
func (v *verifiedDB) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	tx := &verifiedTx{}
	err := v.conn(ctx, func(c *sql.Conn) (err error) {
		if tx.Tx, err = c.BeginTx(ctx, opts); err != nil {
			return err
		}
		// a transaction whose context ends is rolled back by nobody's call
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		tx.end = func() {
			if stop() {
				_ = c.Close()
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tx, nil
}

// A verifiedTx gives its connection back when it ends.
type verifiedTx struct {
	*sql.Tx
	end func()
}

func (t *verifiedTx) Commit() error {
	defer t.end()
	return t.Tx.Commit()
}

func (t *verifiedTx) Rollback() error {
	defer t.end()
	return t.Tx.Rollback()
}

func (v *verifiedDB) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := v.conn(ctx, (*sql.Conn).Close); err != nil {
		return nil, err
	}
	return v.DB.PrepareContext(ctx, query)
}

// checkTransport refuses a driver's connection that leaves this machine
// without TLS, or with TLS whose server certificate nobody verified.
func checkTransport(dc any) error {
	refuse := func(why string) error {
		return &RefusedError{
			Op: "connect", Why: why,
			Mend: "PostgreSQL: sslmode=verify-full with sslrootcert; MariaDB: a tls.Config with storage.RootPool, or tls=true; or a Deviation from " + citationTransport + " that says how the way is protected otherwise",
		}
	}
	var conns []net.Conn
	if reflect.ValueOf(dc).Kind() == reflect.Pointer { // by which measure knows it again
		for _, v := range within(dc, isNetConn) {
			conns = append(conns, v.Interface().(net.Conn))
		}
	}
	if len(conns) == 0 {
		return refuse(fmt.Sprintf("no network connection is to be found in a %T, so nobody can tell whether it is verified TLS", dc))
	}
	local := true
	for _, c := range conns {
		if t, ok := c.(interface{ ConnectionState() tls.ConnectionState }); ok {
			s := t.ConnectionState()
			if s.HandshakeComplete && len(s.VerifiedChains) > 0 {
				return nil
			}
		}
		local = local && isLocal(c.RemoteAddr())
	}
	if local {
		return nil
	}
	for _, c := range conns {
		if _, ok := c.(*tls.Conn); ok {
			return refuse("the connection to the database at " + c.RemoteAddr().String() + " is TLS, but the server's certificate and name were not verified")
		}
	}
	return refuse("the connection to the database at " + conns[0].RemoteAddr().String() + " is neither TLS nor on this machine's loopback")
}

func isLocal(a net.Addr) bool {
	switch a := a.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	}
	return false
}

// checkInProcess refuses a connection of a driver that is not known to run SQLite
// in this process: some reach a server that speaks SQLite's language.
func checkInProcess(dc any) error {
	if len(within(dc, isSQLite)) > 0 {
		return nil
	}
	return &RefusedError{
		Op: "connect", Why: fmt.Sprintf("no SQLite of this process is to be found in a %T: it may be a server's, and nobody can tell whether the way there is verified TLS", dc),
		Mend: "use storage/sqlite, or a Deviation from " + citationTransport + " that says how the way is protected otherwise",
	}
}

func isSQLite(v reflect.Value) bool {
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.PkgPath() {
	case "github.com/glebarez/go-sqlite", "modernc.org/sqlite", "github.com/mattn/go-sqlite3", "github.com/ncruces/go-sqlite3":
		return true
	}
	return false
}

func isNetConn(v reflect.Value) bool {
	return v.Type().Implements(reflect.TypeFor[net.Conn]()) && !(v.Kind() == reflect.Pointer && v.IsNil())
}

// within finds what a driver's connection holds. Drivers show it to nobody: so
// this looks through its fields, whatever these are called, level by level,
// and returns what it is looking for on the first level that has any.
func within(dc any, is func(reflect.Value) bool) []reflect.Value {
	const deepest = 8
	level := []reflect.Value{reflect.ValueOf(dc)}
	seen := make(map[unsafe.Pointer]bool)
	for range deepest {
		var found []reflect.Value
		for i, v := range level {
			for v.Kind() == reflect.Interface {
				v = v.Elem()
			}
			if level[i] = v; v.IsValid() && is(v) {
				found = append(found, v)
			}
		}
		if len(found) > 0 {
			return found
		}
		var next []reflect.Value
		for _, v := range level {
			if v.Kind() == reflect.Pointer && !seen[v.UnsafePointer()] {
				seen[v.UnsafePointer()] = true
				v = v.Elem()
			}
			if v.Kind() != reflect.Struct || !v.CanAddr() {
				continue
			}
			for i := range v.NumField() {
				switch f := v.Field(i); f.Kind() {
				case reflect.Interface, reflect.Pointer, reflect.Struct:
					// by its address, or reflect would not give an unexported field out
					next = append(next, reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem())
				}
			}
		}
		level = next
	}
	return nil
}

// RootPool returns the certificate authorities in the PEM files, such as the
// bundle of a cloud's databases: a connection that is given them trusts no
// others. Those that have expired are left out.
//
// It is for MariaDB's driver and others that take a tls.Config; PostgreSQL's
// takes a file's name, sslrootcert, in its DSN. The error names the file that
// holds no certificate, only expired ones, or a private key, which belongs
// elsewhere.
func RootPool(files ...string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, errors.New("storage: root pool: no file is named: give the PEM file of the database's certificate authority")
	}
	pool, now := x509.NewCertPool(), time.Now()
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("storage: root pool: %w", err)
		}
		valid := 0
		var expired time.Time
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				return nil, fmt.Errorf("storage: root pool: %s holds a %s: give a file of certificates only", name, block.Type)
			}
			c, err := x509.ParseCertificate(block.Bytes)
			switch {
			case err != nil:
				return nil, fmt.Errorf("storage: root pool: %s: certificate %d cannot be read: %w", name, valid+1, err)
			case now.After(c.NotAfter):
				if c.NotAfter.After(expired) {
					expired = c.NotAfter
				}
			default:
				pool.AddCert(c)
				valid++
			}
		}
		switch {
		case valid > 0:
		case !expired.IsZero():
			return nil, fmt.Errorf("storage: root pool: %s: every certificate has expired, the last on %s: get the authority's current file", name, expired.Format(time.DateOnly))
		default:
			return nil, fmt.Errorf("storage: root pool: %s holds no certificate: give the authority's in PEM, which begins with -----BEGIN CERTIFICATE-----", name)
		}
	}
	return pool, nil
}
