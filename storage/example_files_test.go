// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

func ExampleOpenFiles() {
	tb := &exampleTB{}
	defer tb.end()
	db := storagetest.NewDB(tb, &Patient{})
	files, err := storage.OpenFiles(db.DB, storage.FilesConfig{Folder: filepath.Join(tb.TempDir(), "files")})
	if err != nil {
		fmt.Println(err)
		return
	}
	physician := accesstest.As(tb, tb.Context(), "physician", access.Treatment)
	patient := Patient{Name: storage.Seal("Jane Roe")}
	if err := db.WithContext(physician).Create(&patient).Error; err != nil {
		fmt.Println(err)
		return
	}
	id, err := files.Put(physician, patient.ID, minimize.Psychotherapy, strings.NewReader("Told me that she sleeps badly."))
	fmt.Println(id != "", errors.Is(err, storage.ErrNotPermitted)) // the starter policy keeps these notes from the chart
	if id, err = files.Put(physician, patient.ID, minimize.Clinical, strings.NewReader("Chest X-ray: no finding.")); err != nil {
		fmt.Println(err)
		return
	}
	f, err := files.Open(physician, id) // authorised, minimised, recorded, and only then opened
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	_, _ = f.Seek(13, io.SeekStart) // reads from any place
	text, err := io.ReadAll(f)
	fmt.Printf("%s %v\n", text, err)
	list, err := files.List(physician, patient.ID)
	fmt.Println(len(list), list[0].Class, list[0].Size, err)
	// Output:
	// false true
	// no finding. <nil>
	// 1 clinical 24 <nil>
}

func ExampleDate() {
	var d storage.Date
	fmt.Println(d.IsZero(), d.UnmarshalText([]byte("1980-03-04")), d, d.Month)
	fmt.Println(d == storage.Date{Year: 1980, Month: 3, Day: 4}, d.UnmarshalText([]byte("1980-02-30")) != nil)
	fmt.Println(storage.Seal(d))
	// Output:
	// true <nil> 1980-03-04 March
	// true true
	// [PHI]
}
