// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
)

// renderFigures compare the JSON of a record whose fields are masked with
// encoding/json of a struct that holds the same strings in clear.
func renderFigures() []figure {
	return []figure{{"masked 20-field JSON / encoding/json plain", goal{most: 0.5}, maskedJSON}}
}

// An ssn is a field that the starter policy masks for a physician.
type ssn = storage.Sealed[string]

// plainFields is what twenty holds, in clear.
type plainFields struct {
	A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T string
}

func maskedJSON(ctx context.Context, dir string) (_ value, err error) {
	// Called so because the starter policy knows that name.
	type Patient struct {
		storage.PatientRecord `json:"-"`
		A                     ssn `phi:"ssn"`
		B                     ssn `phi:"ssn"`
		C                     ssn `phi:"ssn"`
		D                     ssn `phi:"ssn"`
		E                     ssn `phi:"ssn"`
		F                     ssn `phi:"ssn"`
		G                     ssn `phi:"ssn"`
		H                     ssn `phi:"ssn"`
		I                     ssn `phi:"ssn"`
		J                     ssn `phi:"ssn"`
		K                     ssn `phi:"ssn"`
		L                     ssn `phi:"ssn"`
		M                     ssn `phi:"ssn"`
		N                     ssn `phi:"ssn"`
		O                     ssn `phi:"ssn"`
		P                     ssn `phi:"ssn"`
		Q                     ssn `phi:"ssn"`
		R                     ssn `phi:"ssn"`
		S                     ssn `phi:"ssn"`
		T                     ssn `phi:"ssn"`
	}
	const number = "219-09-9999"
	db, err := storage.Open(sqlite.Open(filepath.Join(dir, "app.db")), storage.Config{
		KEK: cryptotest.NewKEK(), Audit: new(audittest.Trail), Access: rbac.Starter(), Minimize: minimize.Starter(),
	})
	if err != nil {
		return value{}, err
	}
	defer func() { err = errors.Join(err, storage.Close(db)) }()
	ctx = access.With(ctx, access.Principal{ID: "u-1", Tenant: "clinic-7", Kind: access.Human, Roles: []string{"physician"}}, access.Treatment)
	if err := storage.Migrate(ctx, db, &Patient{}); err != nil {
		return value{}, err
	}
	s := func() ssn { return storage.Seal(number) }
	p := Patient{A: s(), B: s(), C: s(), D: s(), E: s(), F: s(), G: s(), H: s(), I: s(), J: s(), K: s(), L: s(), M: s(), N: s(), O: s(), P: s(), Q: s(), R: s(), S: s(), T: s()}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		return value{}, err
	}
	if err := storage.Reveal(ctx, &p); err != nil {
		return value{}, err
	}
	got, err := minimize.JSON(ctx, &p)
	if err != nil {
		return value{}, err
	}
	if strings.Count(string(got), `"***-**-9999"`) != 20 {
		return value{}, fmt.Errorf("not 20 masks in %s", got)
	}
	plain := plainFields{number, number, number, number, number, number, number, number, number, number, number, number, number, number, number, number, number, number, number, number}
	return ratio(ctx, 301,
		timed(200, func(ctx context.Context) error { _, err := minimize.JSON(ctx, &p); return err }),
		timed(200, func(context.Context) error { _, err := json.Marshal(&plain); return err }))
}
