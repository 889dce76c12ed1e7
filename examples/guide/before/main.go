// SPDX-License-Identifier: Apache-2.0

// The app of docs/guide-storage.md as it was: patients in clear.
package main

import (
	"fmt"
	"log"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/part164/part164/storage/sqlite"
)

type Patient struct {
	ID        string `gorm:"primaryKey;size:36"`
	CreatedAt time.Time
	UpdatedAt time.Time
	MRN       string `gorm:"uniqueIndex;size:20"`
	Name      string `gorm:"size:100"`
	Phone     string
	Notes     string
	NextVisit time.Time `gorm:"index"`
}

func main() {
	db, err := gorm.Open(sqlite.Open("data/app.db"), &gorm.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err := db.AutoMigrate(&Patient{}); err != nil {
		log.Fatal(err)
	}
	for i, name := range []string{"Jane Roe", "Zoë O'Neill", "Wei Ng"} {
		p := Patient{ID: uuid.Must(uuid.NewV7()).String(), MRN: fmt.Sprintf("MRN-00%d", i), Name: name,
			Phone: fmt.Sprintf("212-555-010%d", i), NextVisit: time.Date(2027, 1, 5+i, 9, 0, 0, 0, time.UTC)}
		if err := db.Create(&p).Error; err != nil {
			log.Fatal(err)
		}
	}
	if err := list(db); err != nil {
		log.Fatal(err)
	}
}

func list(db *gorm.DB) error {
	var due []Patient
	err := db.Where("next_visit > ?", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)).Order("next_visit").Find(&due).Error
	for _, p := range due {
		fmt.Println(p.NextVisit.Format(time.DateOnly), p.MRN, p.Name, p.Phone)
	}
	return err
}
