// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
)

// A field is one field of the patient on a page.
type field struct {
	Name, Label string
	Value       *storage.Sealed[string]
}

func fields(p *Patient) []field {
	return []field{
		{"Name", "Name", &p.Name}, {"OtherNames", "Other names", &p.OtherNames}, {"MRN", "Record number (MRN)", &p.MRN},
		{"BirthDate", "Date of birth", &p.BirthDate}, {"Sex", "Sex", &p.Sex}, {"SSN", "Social security number", &p.SSN},
		{"Phone", "Phone", &p.Phone}, {"Email", "E-mail", &p.Email}, {"Street", "Street", &p.Street},
		{"City", "City", &p.City}, {"State", "State", &p.State}, {"ZIP", "ZIP code", &p.ZIP}, {"Plan", "Plan member number", &p.Plan},
	}
}

// class is the class of PHI that the field's tag gives.
func (f field) class() minimize.Class {
	sf, _ := reflect.TypeFor[Patient]().FieldByName(f.Name)
	tag, _, err := minimize.FieldTag(sf)
	if err != nil {
		return "" // no class: nothing may be written
	}
	return tag.Class
}

// A form is the body of the edit page.
type form struct {
	ID      string // empty for a new patient
	Version int64
	Inputs  []input
}

// An input is a field in the form. What is not shown in full has an empty
// input, and an empty input keeps what is stored.
type input struct {
	field
	Text     string // what stands in the input
	Editable bool
	Hidden   bool   // there is a value, and it is not shown in full
	Stored   string // after a conflict: what is stored now, where it differs
}

// form returns the form for p, with what was typed before in place of what is
// stored.
func (a *app) form(r *http.Request, p *Patient, typed map[string]string) form {
	ctx := r.Context()
	f := form{ID: p.ID, Version: p.Version}
	s, err := access.From(ctx)
	if err != nil {
		return f
	}
	who := s.Principal()
	elevated, err := a.desk.Elevated(ctx, who.Tenant, who.ID)
	if err != nil {
		elevated = nil // shown are fewer inputs
	}
	roles := append(s.Roles(), elevated...)
	for _, fd := range fields(p) {
		is := fd.Value.Minimized(ctx)
		in := input{field: fd, Hidden: is.State != minimize.Shown && is.State != minimize.Null}
		if is.State == minimize.Shown {
			in.Text = is.Text
		}
		switch a.minimum.Right(roles, s.Purpose(), fd.class()) {
		case minimize.Change:
			in.Editable = true
		case minimize.Set:
			in.Editable = is.State == minimize.Null
		}
		if text, ok := typed[fd.Name]; ok && in.Editable && text != in.Text {
			if in.Stored = in.Text; in.Hidden {
				in.Stored = ""
			}
			in.Text = text
		}
		f.Inputs = append(f.Inputs, in)
	}
	return f
}

func (a *app) newPage(w http.ResponseWriter, r *http.Request) {
	a.render(w, r, http.StatusOK, "edit", page{Title: "New patient", Body: a.form(r, &Patient{}, nil)})
}

func (a *app) editPage(w http.ResponseWriter, r *http.Request) {
	p, err := a.patient(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.render(w, r, http.StatusOK, "edit", page{Title: "Edit patient", Body: a.form(r, p, nil)})
}

func (a *app) create(w http.ResponseWriter, r *http.Request) {
	var p Patient
	typed, err := apply(r, &p)
	if err == nil {
		err = a.db.WithContext(r.Context()).Create(&p).Error
	}
	if err != nil {
		a.editAgain(w, r, "New patient", &Patient{}, typed, err)
		return
	}
	if err := a.takeOn(r.Context(), p.ID); err != nil {
		a.fail(w, r, err)
		return
	}
	see(w, r, "/patients/"+p.ID)
}

// update saves what differs from what the form was filled with, if nobody has
// saved in between.
func (a *app) update(w http.ResponseWriter, r *http.Request) {
	p, err := a.patient(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	typed, err := apply(r, p)
	if err == nil {
		p.Version, err = strconv.ParseInt(r.PostFormValue("version"), 10, 64)
	}
	if err == nil {
		err = a.db.WithContext(r.Context()).Save(p).Error
	}
	if err == nil {
		see(w, r, "/patients/"+p.ID)
		return
	}
	now, rerr := a.patient(r)
	if rerr != nil {
		a.fail(w, r, rerr)
		return
	}
	a.editAgain(w, r, "Edit patient", now, typed, err)
}

// An invalid input is told to the user.
type invalid struct{ message string }

func (e invalid) Error() string { return "clinic: invalid input" }

var birthDate = regexp.MustCompile(`^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$`)

// apply puts what was typed into p, and returns it by field. An input that is
// missing, or says what is stored, leaves the field alone; so does an empty one
// for a value that is not shown in full.
func apply(r *http.Request, p *Patient) (map[string]string, error) {
	if err := r.ParseForm(); err != nil {
		return nil, invalid{"The form is too long or cannot be read."}
	}
	typed := map[string]string{}
	for _, f := range fields(p) {
		if !r.PostForm.Has(f.Name) {
			continue
		}
		text := strings.TrimSpace(r.PostForm.Get(f.Name))
		typed[f.Name] = text
		switch is := f.Value.Minimized(r.Context()); {
		case text == "" && is.State != minimize.Shown, is.State == minimize.Shown && is.Text == text:
			continue
		}
		*f.Value = seal(text)
	}
	switch {
	case p.Name.IsNull():
		return typed, invalid{"A patient needs a name."}
	case typed["BirthDate"] != "" && !birthDate.MatchString(typed["BirthDate"]):
		return typed, invalid{"Write the date of birth as YYYY-MM-DD."}
	}
	for name, text := range typed {
		if len(text) > 200 {
			return typed, invalid{name + " is too long."}
		}
	}
	return typed, nil
}

// editAgain shows the form with what was typed, and why it was not saved.
func (a *app) editAgain(w http.ResponseWriter, r *http.Request, title string, p *Patient, typed map[string]string, err error) {
	status, message := http.StatusUnprocessableEntity, ""
	var bad invalid
	var not *storage.WriteError
	switch {
	case errors.As(err, &bad):
		message = bad.message
	case errors.Is(err, storage.ErrConflict):
		status = http.StatusConflict
		message = "Somebody else has saved this record since you opened it. Nothing of yours was saved. Your text stands in the fields, and what is stored now below them: put right what differs, and save again."
	case errors.Is(err, storage.ErrDuplicate):
		message = "Another patient has this record number."
	case errors.As(err, &not) && not.Masked:
		message = fmt.Sprintf("This looks like a mask, not a value: %s. Leave it empty to keep what is stored.", strings.Join(not.Fields, ", "))
	case errors.As(err, &not):
		status = http.StatusForbidden
		message = fmt.Sprintf("Your role may not change: %s.", strings.Join(not.Fields, ", "))
	default:
		a.fail(w, r, err)
		return
	}
	a.render(w, r, status, "edit", page{Title: title, Message: message, Body: a.form(r, p, typed)})
}
