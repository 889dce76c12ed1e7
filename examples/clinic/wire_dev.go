// SPDX-License-Identifier: Apache-2.0

//go:build !production

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/driver/postgres"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/session"
	"github.com/part164/part164/storage/sqlite"
)

// wire is the development wiring: keys in a file, a database on this machine,
// plain HTTP on loopback, demo users whose passwords are below. For synthetic
// data only.
func wire(o options) (wiring, error) {
	w := wiring{development: true, database: sqlite.Open(o.in("clinic.db")), team: []string{"physician", "nurse"}, tell: tellLog}
	if host, _, err := net.SplitHostPort(o.addr); err == nil && !isLoopback(host) {
		return w, errors.New("clinic: -addr: development mode listens on loopback only: use localhost, or build with -tags production")
	}
	if o.dsn != "" {
		if err := checkLoopback(o.dsn); err != nil {
			return w, err
		}
		w.database = postgres.Open(o.dsn)
	}
	file := o.kek
	if file == "" {
		file = o.in("keys", "kek.json")
	}
	kek, err := crypto.LocalKEK(file)
	if err != nil {
		return w, err
	}
	w.kek = kek // made with the journal and the database: never beside older ones
	return w, nil
}

// tellLog tells whoever reads the log.
func tellLog(_ context.Context, a grant.Alert) error {
	what := "the glass was broken: somebody has to look at it"
	if a.Overdue {
		what = "nobody has looked at an emergency access yet"
	}
	slog.Warn(what, "emergency", a.Grant.ID, "reason", a.Grant.Reason, "review by", a.Grant.ReviewBy.Format(time.RFC3339))
	return nil
}

// checkLoopback refuses a DSN that reaches another machine. Its errors do not
// hold the DSN, which may have a password in it.
func checkLoopback(dsn string) error {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return errors.New("clinic: -dsn: it is no PostgreSQL DSN")
	}
	hosts := []string{cfg.Host}
	for _, f := range cfg.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	for _, h := range hosts {
		if !isLoopback(h) && !strings.HasPrefix(h, "/") { // a path is a Unix socket
			return errors.New("clinic: -dsn: development mode uses a database on loopback only: name localhost, or build with -tags production")
		}
	}
	return nil
}

// serve listens on loopback, and answers to loopback names only, so that no
// page elsewhere reaches the app under a name of its own (DNS rebinding).
func (a *app) serve(addr string) (*server, error) {
	inner := a.handler()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		if !isLoopback(host) {
			http.Error(w, "development mode answers to localhost only", http.StatusMisdirectedRequest)
			return
		}
		inner.ServeHTTP(w, r)
	})
	return listen(addr, "http", h, (*http.Server).Serve)
}

// A demoUser exists in development only.
type demoUser struct{ Login, Role, Password, Code string }

func demoUsers() []demoUser {
	var out []demoUser
	for _, role := range []string{"physician", "nurse", "billing", "privacy-officer", "admin"} {
		login := strings.TrimPrefix(role, "privacy-")
		out = append(out, demoUser{Login: login, Role: role, Password: "demo " + login + " 164"})
	}
	return append(out, demoUser{Login: "patient", Role: "patient", Password: "demo patient 164"})
}

// addUsers makes the demo users, and gives each a new second factor: a code
// that an earlier run has used is no hindrance to this one.
func (a *app) addUsers(ctx context.Context) error {
	for _, d := range demoUsers() {
		u, err := a.sessions.UserByLogin(ctx, tenant, d.Login)
		if errors.Is(err, session.ErrNotFound) {
			n := session.NewUser{Tenant: tenant, Login: d.Login, Roles: []string{d.Role}, Password: d.Password}
			if d.Role == "patient" {
				n.ID, n.Kind = firstPatient, access.Patient
			}
			if u, err = a.sessions.CreateUser(ctx, n); errors.Is(err, session.ErrExists) { // another node was faster
				u, err = a.sessions.UserByLogin(ctx, tenant, d.Login)
			}
		}
		if err == nil {
			err = a.sessions.DevelopmentEnrol(ctx, tenant, u.ID)
		}
		if errors.Is(err, session.ErrLocked) {
			continue // after many wrong codes: the factor that there is serves on
		}
		if err != nil {
			return fmt.Errorf("clinic: demo user %s: %w", d.Login, err)
		}
	}
	return nil
}

// demo returns the demo users with the codes that their phones would show now.
func (a *app) demo(ctx context.Context) ([]demoUser, error) {
	users := demoUsers()
	for i := range users {
		u, err := a.sessions.UserByLogin(ctx, tenant, users[i].Login)
		if err != nil {
			return nil, err
		}
		if users[i].Code, err = a.sessions.DevelopmentCode(ctx, tenant, u.ID); err != nil {
			return nil, err
		}
	}
	return users, nil
}

// greet says where the app is and how to get in.
func (a *app) greet(ctx context.Context, out io.Writer, url string) error {
	users, err := a.demo(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Elm Street Clinic: %s  (data in %s, stop with Ctrl-C)\n", url, a.options.data)
	fmt.Fprintf(out, "Development mode: synthetic data only. Demo users, with the code of this half minute (later ones are on the sign-in page):\n\n")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  LOGIN\tPASSWORD\tCODE\tROLE")
	for _, u := range users {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", u.Login, u.Password, u.Code, u.Role)
	}
	return t.Flush()
}
