// SPDX-License-Identifier: Apache-2.0

//go:build production

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"gorm.io/driver/postgres"

	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/storage/sqlite"
)

// productionKEK returns the key that wraps all others. Fill it in with your
// KMS: what tink-go-awskms and tink-go-gcpkms return is a crypto.KEK, and that
// of tink-go-hcvault is one through crypto.WithoutContext.
//
//	return awskms.NewAEADWithContext(os.Getenv("CLINIC_KEY_URI"))
func productionKEK(context.Context) (crypto.KEK, error) {
	return nil, errors.New("clinic: no KMS: fill in productionKEK in wire_prod.go: keys are kept on another device than the data")
}

// productionTell returns what tells the privacy officer that somebody broke the
// glass, or that a review is overdue: by a pager, or by mail with no more in it
// than the grant's ID. It is called again until it returns nil, and never holds up
// who breaks the glass.
//
//	return func(ctx context.Context, a grant.Alert) error { return pager.Send(ctx, a.Grant.ID) }, nil
func productionTell() (func(context.Context, grant.Alert) error, error) {
	return nil, errors.New("clinic: nobody is told of a broken glass: fill in productionTell in wire_prod.go")
}

// wire is the production wiring. Every option of the SDK that is not named
// here has its zero value, which is the production setting.
func wire(o options) (wiring, error) {
	w := wiring{database: sqlite.Open(o.in("clinic.db"))}
	if o.selfcheck {
		return w, errors.New("clinic: -selfcheck needs the demo users of development mode: build without -tags production")
	}
	if o.kek != "" {
		return w, errors.New("clinic: -kek is for development: nodes in production share a KMS")
	}
	if o.dsn != "" {
		// sslmode=verify-full with sslrootcert: storage refuses any other way to
		// a database that is not on this machine.
		w.database = postgres.Open(o.dsn)
	}
	var err error
	if w.kek, err = productionKEK(context.Background()); err != nil {
		return w, err
	}
	if w.tell, err = productionTell(); err != nil {
		return w, err
	}
	// Document here what you do not follow, and what you do instead (45 CFR
	// 164.306(d)(3)); each is recorded at every start.
	w.deviations = nil
	return w, nil
}

// serve speaks TLS with the certificate and key that CLINIC_TLS_CERT and
// CLINIC_TLS_KEY name, and tells browsers to insist on it.
func (a *app) serve(addr string) (*server, error) {
	cert, key := os.Getenv("CLINIC_TLS_CERT"), os.Getenv("CLINIC_TLS_KEY")
	if cert == "" || key == "" {
		return nil, errors.New("clinic: no TLS: set CLINIC_TLS_CERT and CLINIC_TLS_KEY to the files of the certificate and its key")
	}
	inner := a.handler()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
		inner.ServeHTTP(w, r)
	})
	return listen(addr, "https", h, func(s *http.Server, l net.Listener) error { return s.ServeTLS(l, cert, key) })
}

// A demoUser exists in development only.
type demoUser struct{ Login, Role, Password, Code string }

// addUsers adds nobody: make your users with a tool of your own, by CreateUser,
// BindTOTP and ConfirmTOTP of session.Manager.
func (a *app) addUsers(context.Context) error { return nil }

// demo returns nobody.
func (a *app) demo(context.Context) ([]demoUser, error) { return nil, nil }

// greet says where the app is.
func (a *app) greet(_ context.Context, out io.Writer, url string) error {
	_, err := fmt.Fprintf(out, "Elm Street Clinic: %s\n", url)
	return err
}
