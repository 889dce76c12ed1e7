// SPDX-License-Identifier: Apache-2.0

package minimize_test

import (
	"context"
	"fmt"
	"html/template"
	"log"
	"os"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/minimize/minimizetest"
)

func ExampleNew() {
	policy, err := minimize.New([]minimize.Rule{
		{
			Role: "pharmacist", Purposes: []access.Purpose{access.Treatment}, View: minimize.Reveal,
			Classes: []minimize.Class{minimize.Name, minimize.DOB, minimize.Allergy, minimize.Medication},
		},
		{
			Role: "pharmacist", Purposes: []access.Purpose{access.Treatment}, View: minimize.Mask,
			Classes: []minimize.Class{minimize.Phone},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	roles := []string{"pharmacist"}
	fmt.Println(policy.View(roles, access.Treatment, minimize.Allergy))
	fmt.Println(policy.View(roles, access.Treatment, minimize.Phone))
	fmt.Println(policy.View(roles, access.Treatment, minimize.Psychotherapy))
	fmt.Println(policy.View(roles, access.Research, minimize.Allergy))
	// Output:
	// reveal
	// mask
	// withhold
	// withhold
}

func ExamplePolicy_WriteTo() {
	if _, err := minimize.Starter().WriteTo(os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output:
	// minimum necessary policy 3e922f5109587298e9d96742cba813ac: what is not listed is withheld
	// ROLE             PURPOSE        VIEW        WRITE   CLASSES
	// admin            HSYSADMIN      withhold    no      every class
	// billing          HPAYMT         reveal      no      name, street, city, county, zip, date, dob, mrn, operational
	// billing          HPAYMT         mask        no      phone, ssn
	// billing          HPAYMT         reveal      change  plan, account
	// nurse            BTG            reveal      no      name, street, city, county, zip, date, dob, age, phone, fax, email, mrn, device, photo, uid, clinical, allergy, medication, problem, sensitive, text, operational
	// nurse            ETREAT, TREAT  reveal      change  name, street, city, county, zip, date, dob, age, phone, fax, email, mrn, clinical, allergy
	// nurse            ETREAT, TREAT  mask        set     ssn
	// nurse            ETREAT, TREAT  reveal      no      plan, device, photo, uid, medication, problem, sensitive, text, operational
	// physician        BTG            reveal      no      name, street, city, county, zip, date, dob, age, phone, fax, email, mrn, device, photo, uid, clinical, allergy, medication, problem, sensitive, text, operational
	// physician        ETREAT, TREAT  reveal      change  name, street, city, county, zip, date, dob, age, phone, fax, email, mrn, device, photo, uid, clinical, allergy, medication, problem, sensitive, text, operational
	// physician        ETREAT, TREAT  mask        change  ssn
	// physician        ETREAT, TREAT  reveal      no      plan
	// privacy-officer  HCOMPL         reveal      no      name, mrn
	// privacy-officer  HCOMPL         generalise  no      dob
}

func ExampleApply() {
	fmt.Println(minimize.Apply(minimize.Mask, minimize.SSN, "219-09-9999"))
	fmt.Println(minimize.Apply(minimize.Mask, minimize.Name, "Jane Roe"))
	fmt.Println(minimize.Apply(minimize.Generalise, minimize.ZIP, "02139-4307"))
	fmt.Println(minimize.Apply(minimize.Generalise, minimize.Age, "94"))
	fmt.Println(minimize.Apply(minimize.Withhold, minimize.Text, "seen today"))
	// Output:
	// ***-**-9999
	// J*** R***
	// 021
	// 90+
	// [PHI:text]
}

func ExampleParseTag() {
	tag, err := minimize.ParseTag("mrn,search=exact,unique")
	fmt.Println(tag.Class, tag.Search, tag.Unique, err)
	_, err = minimize.ParseTag("mrn,unique")
	fmt.Println(err)
	// Output:
	// mrn [exact] true <nil>
	// minimize: parse tag: class mrn: unique is kept by the exact index: add search=exact
}

func ExampleCheckInput() {
	fmt.Println(minimize.CheckInput(minimize.SSN, "***-**-9999"))
	fmt.Println(minimize.CheckInput(minimize.SSN, "219-09-9999"))
	// Output:
	// minimize: a masked or withheld value was given back as input: leave the field out to keep what is stored (class ssn)
	// <nil>
}

// A biller renders a row. In an app the values are storage.Sealed and Reveal is
// storage.Reveal.
func ExampleWriteJSON() {
	ctx := minimizetest.As(context.Background(), "billing", access.Payment, minimize.Starter())
	type row struct {
		ID      string             `json:"id" phi:"-"`
		Name    minimizetest.Value `json:"name" phi:"name"`
		SSN     minimizetest.Value `json:"ssn" phi:"ssn"`
		Allergy minimizetest.Value `json:"allergy" phi:"allergy"`
		Next    time.Time          `json:"next" phi:"date,clear"`
		Note    string             `json:"note" phi:"text,clear"`
	}
	err := minimize.WriteJSON(ctx, os.Stdout, row{
		ID:      "0193",
		Name:    minimizetest.Seal(minimize.Name, "Jane Roe").Reveal(ctx),
		SSN:     minimizetest.Seal(minimize.SSN, "219-09-9999").Reveal(ctx),
		Allergy: minimizetest.Seal(minimize.Allergy, "penicillin").Reveal(ctx),
		Next:    time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC),
		Note:    "call her sister",
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// {"id":"0193","name":"Jane Roe","ssn":"***-**-9999","next":"2026-11-30T09:00:00Z","_withheld":["allergy","note"]}
}

func ExampleFuncs() {
	// Once, when the program starts:
	page := template.Must(template.New("chart").Funcs(minimize.Funcs(context.Background())).Parse(
		`<td class="{{state .SSN}}">{{phi .SSN}}</td><td>{{phi .Note}}</td>`))

	// For each request:
	ctx := minimizetest.As(context.Background(), "nurse", access.Treatment, minimize.Starter())
	tmpl, err := page.Clone()
	if err != nil {
		log.Fatal(err)
	}
	err = tmpl.Funcs(minimize.Funcs(ctx)).Execute(os.Stdout, struct{ SSN, Note minimizetest.Value }{
		SSN:  minimizetest.Seal(minimize.SSN, "219-09-9999").Reveal(ctx),
		Note: minimizetest.Seal(minimize.Psychotherapy, "session 4").Reveal(ctx),
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// <td class="masked">***-**-9999</td><td><span class="phi-withheld" title="the policy does not show class psychotherapy to nurse for TREAT">withheld</span></td>
}
