// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	gormmysql "gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/storage"
)

// A tlsServer is a database server of the test's own, with a certificate of
// its own authority, that listens on every address of this machine.
type tlsServer struct {
	remote   string // an address of this machine that is not loopback
	port     int
	password string
	ca       string // PEM file of the authority
	otherCA  string // of an authority that has nothing to do with it

	kek *cryptotest.KEK
	dir string
	as  *syscall.SysProcAttr // whose user may run it
}

// TestTransportPostgres reaches a real server in every way, as a client on
// another machine would.
func TestTransportPostgres(t *testing.T) {
	t.Parallel()
	s := startPostgresTLS(t)
	dsn := func(host, params string) string {
		return fmt.Sprintf("host=%s port=%d user=part164 password=%s dbname=postgres %s", host, s.port, s.password, params)
	}
	at := func(host, params string) func() gorm.Dialector {
		return func() gorm.Dialector { return postgres.Open(dsn(host, params)) }
	}
	s.check(t, []way{
		{"plain, another machine", at(s.remote, "sslmode=disable"), "neither TLS nor on this machine"},
		{"TLS that nobody verifies", at(s.remote, "sslmode=require"), "not verified"},
		{"TLS or not, as the server likes", at(s.remote, "sslmode=prefer"), "not verified"},
		{"TLS whose name nobody verifies", at(s.remote, "sslmode=verify-ca sslrootcert="+s.ca), "not verified"},
		{"verified", at(s.remote, "sslmode=verify-full sslrootcert="+s.ca), ""},
		{"verified by another authority", at(s.remote, "sslmode=verify-full sslrootcert="+s.otherCA), "unknown authority"},
		{"plain, loopback", at("127.0.0.1", "sslmode=disable"), ""},
		{"two hosts, the verified one first", at(s.remote+","+s.remote, "sslmode=verify-full sslrootcert="+s.ca), ""},
	})

	t.Run("the server sees what we measure", func(t *testing.T) {
		db := s.open(t, postgres.Open(dsn(s.remote, "sslmode=verify-full sslrootcert="+s.ca)), nil)
		var on bool
		if err := db.Raw("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&on).Error; err != nil || !on {
			t.Errorf("pg_stat_ssl = %v, %v", on, err)
		}
	})
	t.Run("a failover to a plain connection", func(t *testing.T) {
		cfg, err := pgx.ParseConfig(dsn("database.example", "sslmode=disable"))
		if err != nil {
			t.Fatal(err)
		}
		var moved atomic.Bool
		cfg.LookupFunc = func(context.Context, string) ([]string, error) {
			if moved.Load() {
				return []string{s.remote}, nil
			}
			return []string{"127.0.0.1"}, nil
		}
		s.failover(t, stdlib.OpenDB(*cfg), func(c *sql.DB) gorm.Dialector { return postgres.New(postgres.Config{Conn: c}) }, func() { moved.Store(true) })
	})
	t.Run("a fallback from verified TLS", func(t *testing.T) {
		cfg, err := pgx.ParseConfig(dsn(s.remote, "sslmode=verify-full sslrootcert="+s.ca))
		if err != nil {
			t.Fatal(err)
		}
		var plain atomic.Bool
		pool := stdlib.OpenDB(*cfg, stdlib.OptionBeforeConnect(func(_ context.Context, c *pgx.ConnConfig) error {
			if plain.Load() {
				c.TLSConfig = nil
			}
			return nil
		}))
		s.failover(t, pool, func(c *sql.DB) gorm.Dialector { return postgres.New(postgres.Config{Conn: c}) }, func() { plain.Store(true) })
	})
}

// TestTransportMariaDB does the same for MariaDB's driver.
func TestTransportMariaDB(t *testing.T) {
	t.Parallel()
	s := startMariaDBTLS(t)
	pool := func(t *testing.T, host string, change func(*mysql.Config)) *sql.DB {
		t.Helper()
		cfg := mysql.NewConfig()
		cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = "part164", s.password, "tcp", net.JoinHostPort(host, strconv.Itoa(s.port)), "part164"
		cfg.ParseTime = true
		if change != nil {
			change(cfg)
		}
		c, err := mysql.NewConnector(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return sql.OpenDB(c)
	}
	roots := func(file string) func(*mysql.Config) {
		return func(c *mysql.Config) {
			pool, err := storage.RootPool(file)
			if err != nil {
				t.Fatal(err)
			}
			c.TLS = &tls.Config{RootCAs: pool, ServerName: s.remote, MinVersion: tls.VersionTLS12}
		}
	}
	dialect := func(c *sql.DB) gorm.Dialector { return gormmysql.New(gormmysql.Config{Conn: c}) }
	over := func(host string, change func(*mysql.Config)) func() gorm.Dialector {
		return func() gorm.Dialector { return dialect(pool(t, host, change)) }
	}
	s.check(t, []way{
		{"plain, another machine", over(s.remote, nil), "neither TLS nor on this machine"},
		{"TLS that nobody verifies", over(s.remote, func(c *mysql.Config) { c.TLSConfig = "skip-verify" }), "not verified"},
		{"TLS or not, as the server likes", over(s.remote, func(c *mysql.Config) { c.TLSConfig = "preferred" }), "not verified"},
		{"verified", over(s.remote, roots(s.ca)), ""},
		{"verified by another authority", over(s.remote, roots(s.otherCA)), "unknown authority"},
		{"plain, loopback", over("127.0.0.1", nil), ""},
	})

	t.Run("the server sees what we measure", func(t *testing.T) {
		db := s.open(t, over(s.remote, roots(s.ca))(), nil)
		var name, cipher string
		if err := db.Raw("SHOW SESSION STATUS LIKE 'Ssl_cipher'").Row().Scan(&name, &cipher); err != nil || cipher == "" {
			t.Errorf("Ssl_cipher = %q, %v", cipher, err)
		}
	})
	t.Run("a failover to a plain connection", func(t *testing.T) {
		var moved atomic.Bool
		mysql.RegisterDialContext("moving", func(ctx context.Context, _ string) (net.Conn, error) {
			host := "127.0.0.1"
			if moved.Load() {
				host = s.remote
			}
			return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(s.port)))
		})
		defer mysql.DeregisterDialContext("moving")
		c := pool(t, "database.example", func(c *mysql.Config) { c.Net = "moving" })
		s.failover(t, c, dialect, func() { moved.Store(true) })
	})
}

// A way is one way to the server, and what must be said of it; empty where it
// is let through.
type way struct {
	name    string
	dialect func() gorm.Dialector
	says    string
}

func (s *tlsServer) check(t *testing.T, ways []way) {
	t.Helper()
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			db, err := storage.Open(w.dialect(), config(t))
			if err == nil {
				err = errors.Join(db.Exec("SELECT 1").Error, storage.Close(db))
			}
			switch {
			case w.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case w.says != "" && (err == nil || !strings.Contains(err.Error(), w.says)):
				t.Errorf("Open = %v, want it refused: %s", err, w.says)
			case err != nil && strings.Contains(err.Error(), s.password):
				t.Error("the error holds the password")
			}
			if errors.Is(err, storage.ErrRefused) && !strings.Contains(err.Error(), "verify-full") {
				t.Errorf("the error does not name the mend: %v", err)
			}
		})
	}
	plain := ways[0].dialect
	t.Run("plain, in development", func(t *testing.T) {
		s.open(t, plain(), func(c *storage.Config) { c.Development = true })
	})
	t.Run("plain, with a deviation", func(t *testing.T) {
		trail := audittest.New(t)
		s.open(t, plain(), func(c *storage.Config) {
			c.Audit = trail
			c.Deviations = []access.Deviation{{Citation: "164.312(e)(1)", Reason: "the provider ends TLS at its proxy", Alternative: "WireGuard between the two machines", Owner: "security", ReviewBy: time.Now().AddDate(1, 0, 0)}}
		})
		audittest.Want(t, trail, audit.Event{Type: audit.Deviation, Outcome: audit.Success, Reason: audit.ReasonTransport, Citation: "164.312(e)(1)"})
	})
	t.Run("every path", func(t *testing.T) {
		i := slices.IndexFunc(ways, func(w way) bool { return w.name == "verified" })
		db := s.open(t, ways[i].dialect(), nil)
		s.use(t, db)
	})
}

func (s *tlsServer) open(t *testing.T, d gorm.Dialector, change func(*storage.Config)) *gorm.DB {
	t.Helper()
	cfg := config(t)
	cfg.KEK = s.kek
	if change != nil {
		change(&cfg)
	}
	db, err := storage.Open(d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := storage.Close(db); err != nil {
			t.Error(err)
		}
	})
	return db
}

// use runs a little of everything, and sees that each statement gives its
// connection back.
func (s *tlsServer) use(t *testing.T, db *gorm.DB) {
	t.Helper()
	c, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	c.SetMaxOpenConns(2)
	if err := storage.Migrate(t.Context(), db, &Patient{}); err != nil {
		t.Fatal(err)
	}
	ctx := physician(t)
	for range 20 {
		p := jane()
		p.MRN = storage.Sealed[string]{} // unique
		if err := db.WithContext(ctx).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		var got Patient
		if err := db.WithContext(ctx).First(&got, "id = ?", p.ID).Error; err != nil {
			t.Fatal(err)
		}
		if err := storage.Reveal(ctx, &got); err != nil {
			t.Fatal(err)
		}
		if name, err := got.Name.Get(ctx); err != nil || name != "Jane Roe" {
			t.Fatalf("Get = %q, %v", name, err)
		}
		gone := errors.New("gone")
		if err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return errors.Join(tx.Delete(&got).Error, gone) }); !errors.Is(err, gone) {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(ctx)
		if tx := db.WithContext(ended).Begin(); tx.Error != nil {
			t.Fatal(tx.Error)
		}
		cancel() // nobody rolls it back: the connection comes back all the same
	}
}

// failover opens the pool, moves the server, and sees the next connection
// refused while those that were verified go on.
func (s *tlsServer) failover(t *testing.T, pool *sql.DB, dialect func(*sql.DB) gorm.Dialector, move func()) {
	t.Helper()
	db := s.open(t, dialect(pool), nil)
	if err := db.Exec("SELECT 1").Error; err != nil {
		t.Fatal(err)
	}
	move()
	if err := db.Exec("SELECT 1").Error; err != nil {
		t.Errorf("on the connection that was there: %v", err)
	}
	pool.SetMaxIdleConns(-1) // closes them, as a server that goes away does
	var n int
	for name, run := range map[string]func() error{
		"exec":        func() error { return db.Exec("SELECT 1").Error },
		"query":       func() error { return db.Raw("SELECT 1").Scan(&n).Error },
		"row":         func() error { return db.Raw("SELECT 1").Row().Scan(&n) },
		"transaction": func() error { return db.Transaction(func(*gorm.DB) error { return nil }) },
		"prepared":    func() error { return db.Session(&gorm.Session{PrepareStmt: true}).Exec("SELECT 1").Error },
	} {
		if err := run(); !errors.Is(err, storage.ErrRefused) {
			t.Errorf("%s on a new connection = %v, want it refused", name, err)
		}
	}
}

// --- servers ---------------------------------------------------------------

func startPostgresTLS(t *testing.T) *tlsServer {
	t.Helper()
	if os.Getenv("PART164_TEST_POSTGRES") == "" {
		t.Skip("no PostgreSQL: PART164_TEST_POSTGRES is empty")
	}
	bin := "/usr/bin"
	if all, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); len(all) > 0 {
		bin = all[len(all)-1]
	}
	s := newTLSServer(t, filepath.Join(bin, "initdb"), "postgres")
	s.write(t, s.in("password"), s.password)
	s.write(t, s.in("hba"), "hostssl all all all scram-sha-256\nhostnossl all all all scram-sha-256\n")
	data := s.in("data")
	s.run(t, filepath.Join(bin, "initdb"), "-D", data, "-U", "part164", "-E", "UTF8", "--no-locale", "--no-sync",
		"--auth=scram-sha-256", "--pwfile="+s.in("password"))
	s.start(t, filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(s.port), "-k", s.dir,
		"-c", "listen_addresses=*", "-c", "fsync=off", "-c", "hba_file="+s.in("hba"),
		"-c", "ssl=on", "-c", "ssl_cert_file="+s.in("cert.pem"), "-c", "ssl_key_file="+s.in("key.pem"))
	s.answers(t, "pgx", fmt.Sprintf("host=127.0.0.1 port=%d user=part164 password=%s dbname=postgres sslmode=disable", s.port, s.password))
	return s
}

func startMariaDBTLS(t *testing.T) *tlsServer {
	t.Helper()
	if os.Getenv("PART164_TEST_MARIADB") == "" {
		t.Skip("no MariaDB: PART164_TEST_MARIADB is empty")
	}
	mariadbd, err := osexec.LookPath("mariadbd")
	if err != nil {
		mariadbd = "/usr/sbin/mariadbd" // off the PATH of users
	}
	s := newTLSServer(t, mariadbd, "mysql")
	data, socket, initial := s.in("data"), s.in("socket"), s.in("init.sql")
	s.run(t, "mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	s.write(t, initial, fmt.Sprintf("CREATE DATABASE IF NOT EXISTS part164 CHARACTER SET utf8mb4;\nCREATE USER IF NOT EXISTS 'part164'@'%%' IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO 'part164'@'%%';\n", s.password))
	s.start(t, mariadbd, "--no-defaults", "--datadir="+data, "--port="+strconv.Itoa(s.port), "--bind-address=0.0.0.0", "--socket="+socket,
		"--pid-file="+s.in("pid"), "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--init-file="+initial,
		"--ssl-ca="+s.in("ca.pem"), "--ssl-cert="+s.in("cert.pem"), "--ssl-key="+s.in("key.pem"))
	s.answers(t, "mysql", fmt.Sprintf("part164:%s@tcp(127.0.0.1:%d)/part164", s.password, s.port))
	return s
}

// newTLSServer makes a server's folder with its certificate, and skips by name
// where the program is not there, or no other machine could reach this one.
func newTLSServer(t *testing.T, program, name string) *tlsServer {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Skipf("no %s: it cannot be started with TLS here", program)
	}
	s := &tlsServer{kek: cryptotest.NewKEK(), password: strings.ToLower(rand.Text()), as: &syscall.SysProcAttr{Setpgid: true}}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			s.remote = n.IP.String()
		}
	}
	if s.remote == "" {
		t.Skip("this machine has no IPv4 address but loopback: nothing is another machine here")
	}
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // servers refuse to run as root
		u, err := user.Lookup(name)
		if err != nil {
			t.Skipf("no user %s: the server refuses to run as root", name)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	if s.dir, err = os.MkdirTemp("", "part164-tls-"); err != nil { // t.TempDir is closed to the server's user
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	s.own(t, s.dir)
	ca, key := authority(t, "part164 test authority")
	other, _ := authority(t, "another authority")
	s.ca, s.otherCA = s.in("ca.pem"), s.in("other.pem")
	s.write(t, s.ca, encode("CERTIFICATE", ca.Raw))
	s.write(t, s.otherCA, encode("CERTIFICATE", other.Raw))
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "database"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.ParseIP(s.remote)},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, s.in("cert.pem"), encode("CERTIFICATE", der))
	s.write(t, s.in("key.pem"), encode("PRIVATE KEY", pkcs8))
	return s
}

func (s *tlsServer) in(name string) string { return filepath.Join(s.dir, name) }

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// authority makes a certificate authority, which is valid for an hour.
func authority(t *testing.T, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	return authorityUntil(t, name, time.Now().Add(time.Hour))
}

func authorityUntil(t *testing.T, name string, until time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-2 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

func (s *tlsServer) own(t *testing.T, path string) {
	t.Helper()
	if s.as.Credential != nil {
		if err := os.Chown(path, int(s.as.Credential.Uid), int(s.as.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *tlsServer) write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	s.own(t, path)
}

func (s *tlsServer) run(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.SysProcAttr = s.dir, s.as
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// start runs a server until the end of the test.
func (s *tlsServer) start(t *testing.T, program string, args ...string) {
	t.Helper()
	log, err := os.Create(s.in("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := osexec.Command(program, args...)
	cmd.Dir, cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = s.dir, s.as, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGQUIT) // its data go with it: no need for a checkpoint
		timer := time.AfterFunc(5*time.Second, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		defer timer.Stop()
		_ = cmd.Wait()
	})
}

// answers waits until the server does.
func (s *tlsServer) answers(t *testing.T, driver, dsn string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if err = db.PingContext(ctx); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			log, _ := os.ReadFile(s.in("log"))
			t.Fatalf("the server does not answer: %v\n%s", err, bytes.TrimSpace(log))
		}
	}
}

func TestRootPool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, blocks ...string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Join(blocks, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old, _ := authorityUntil(t, "old", time.Now().Add(-time.Hour))
	current, key := authority(t, "current")
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	good := encode("CERTIFICATE", current.Raw)
	pool, err := storage.RootPool(file("bundle", "the authority of the cloud\n", encode("CERTIFICATE", old.Raw), good))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := current.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Errorf("the current authority is not trusted: %v", err)
	}
	only := x509.NewCertPool()
	only.AddCert(current)
	if !pool.Equal(only) {
		t.Error("the pool trusts more than the file's current authority")
	}
	for says, files := range map[string][]string{
		"no file is named":                           nil,
		"no such file":                               {filepath.Join(dir, "absent")},
		"holds no certificate":                       {file("text", "not PEM")},
		"is-good.pem holds no certificate":           {file("first", good), file("is-good.pem", "")},
		"every certificate has expired, the last on": {file("old", encode("CERTIFICATE", old.Raw))},
		"holds a PRIVATE KEY":                        {file("key", good, encode("PRIVATE KEY", pkcs8))},
		"certificate 2 cannot be read":               {file("bad", good, encode("CERTIFICATE", []byte("no DER")))},
	} {
		if _, err := storage.RootPool(files...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("RootPool = %v, want %q", err, says)
		}
	}
}
