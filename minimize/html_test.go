// SPDX-License-Identifier: Apache-2.0

package minimize_test

import (
	"context"
	"html"
	"html/template"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/minimize/minimizetest"
)

func execute(t *testing.T, ctx context.Context, text string, v any) (string, error) {
	t.Helper()
	tmpl, err := template.New("").Funcs(minimize.Funcs(ctx)).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	err = tmpl.Execute(&b, v)
	return b.String(), err
}

type chart struct {
	record  `phi:"-"`
	Name    sealed     `phi:"name"`
	SSN     sealed     `phi:"ssn"`
	Note    sealed     `phi:"text"`
	Allergy sealed     `phi:"allergy"`
	Photo   sealed     `phi:"photo"`
	Gone    *sealed    `phi:"name"`
	Seen    sealed     `phi:"date"`
	Next    time.Time  `phi:"date,clear"`
	Born    *time.Time `phi:"dob,clear"`
	ZIP     string     `phi:"zip,clear"`
	Room    string     `phi:"-"`
	List    []string   `phi:"phone,clear"`
	Any     any        `phi:"age,clear"`
}

func TestTemplateFunctions(t *testing.T) {
	t.Parallel()
	ctx := scope(t, map[minimize.View][]minimize.Class{
		minimize.Reveal: {minimize.Name, minimize.Allergy, minimize.Date, minimize.Photo, minimize.Phone}, minimize.Mask: {minimize.SSN}, minimize.Generalise: {minimize.ZIP, minimize.Age},
	})
	day := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	c := chart{
		Name: minimizetest.Seal(minimize.Name, "Jane <Roe>").Reveal(ctx), SSN: minimizetest.Seal(minimize.SSN, "219-09-9999").Reveal(ctx),
		Note: minimizetest.Seal(minimize.Text, "secret").Reveal(ctx), Photo: minimizetest.Broken(minimize.Photo).Reveal(ctx),
		Seen: minimizetest.Seal(minimize.Date, day).Reveal(ctx), Next: day, Born: &day, ZIP: "02139", Room: "R2", List: []string{"x"}, Any: 46,
	}
	const wh = `<span class="phi-withheld" title="`
	for in, want := range map[string]string{
		`{{phi .Name}}`:                       `Jane &lt;Roe&gt;`,
		`{{state .Name}}|{{why .Name}}`:       `shown|`,
		`{{phi .SSN}}|{{state .SSN}}`:         `***-**-9999|masked`,
		`{{why .SSN}}`:                        `the policy shows only a part of class ssn to nurse for TREAT`,
		`{{phi .Note}}|{{state .Note}}`:       wh + `the policy does not show class text to nurse for TREAT">withheld</span>|withheld`,
		`{{phi .Allergy}}|{{state .Allergy}}`: `|none`,
		`{{phi .Photo}}|{{state .Photo}}`:     `<span class="phi-unavailable" title="the stored value could not be opened; this has been recorded">unavailable</span>|unavailable`,
		`{{phi .Gone}}|{{state .Gone}}`:       `|none`,
		`{{phi .Seen "2 Jan 2006"}}`:          `22 Nov 2026`,
		`{{phi . "Next"}}`:                    `2026-11-22T09:00:00Z`,
		`{{phi . "Next" "2 Jan 2006"}}`:       `22 Nov 2026`,
		`{{phi . "Born"}}`:                    wh + `the policy does not show class dob to nurse for TREAT">withheld</span>`,
		`{{phi . "ZIP"}}|{{state . "ZIP"}}`:   `021|masked`,
		`{{phi . "Room"}}`:                    `R2`,
		`{{phi . "Name"}}`:                    `Jane &lt;Roe&gt;`,
		`{{phi . "Gone"}}|{{phi . "Note"}}`:   `|` + wh + `the policy does not show class text to nurse for TREAT">withheld</span>`,
		`{{phi . "Any"}}`:                     `40-49`,
		`{{phi nil}}`:                         ``,
		`<a title="{{phi .Note}}">`:           `<a title="withheld">`,
	} {
		for _, row := range []any{c, &c} {
			if got, err := execute(t, ctx, in, row); err != nil || got != want {
				t.Errorf("%s:\n got %s, %v\nwant %s", in, got, err, want)
			}
		}
	}
	for in, want := range map[string]string{
		`{{phi .Room}}`:            "no minimize.Value",
		`{{phi .Next}}`:            "no minimize.Value",
		`{{phi .}}`:                "no minimize.Value",
		`{{phi . "Nothing"}}`:      "no field",
		`{{phi . "ID"}}`:           "no phi tag",
		`{{phi . "List"}}`:         "no text form",
		`{{state .Room}}`:          "no minimize.Value",
		`{{why .Room}}`:            "no minimize.Value",
		`{{phi . "record"}}`:       "no field",
		`{{phi .List "anything"}}`: "no minimize.Value",
	} {
		if got, err := execute(t, ctx, in, c); err == nil || !strings.Contains(err.Error(), want) || got != "" {
			t.Errorf("%s: %q, %v, want an error saying %q", in, got, err, want)
		}
	}
	end(t, ctx)
	for _, ctx := range []context.Context{ctx, t.Context(), minimizetest.As(t.Context(), "nurse", access.Payment, minimize.Starter())} {
		for _, in := range []string{`{{phi .Name}}`, `{{phi . "Name"}}`, `{{phi . "Next"}}`, `{{phi . "Born"}}`, `{{phi . "ZIP"}}`, `{{phi .Allergy}}`} {
			got, err := execute(t, ctx, in, c)
			if in == `{{phi .Allergy}}` && got == "" {
				continue // known to be null; the fake tells so to everybody
			}
			if err != nil || !strings.HasPrefix(got, wh) {
				t.Errorf("%s in another scope: %s, %v", in, got, err)
			}
		}
	}
}

// What a form sends back of what it was given is refused, wherever in the page
// the function stood.
func TestFormsCannotSendBackWhatTheyWereShown(t *testing.T) {
	t.Parallel()
	ctx := scope(t, map[minimize.View][]minimize.Class{minimize.Mask: {minimize.Name, minimize.SSN}, minimize.Reveal: {minimize.Photo}})
	c := chart{
		Name: minimizetest.Seal(minimize.Name, "Jane Roe").Reveal(ctx), SSN: minimizetest.Seal(minimize.SSN, "219-09-9999").Reveal(ctx),
		Note: minimizetest.Seal(minimize.Text, "secret").Reveal(ctx), Photo: minimizetest.Broken(minimize.Photo).Reveal(ctx),
	}
	input := regexp.MustCompile(`(?s)value="([^"]*)"|<textarea>(.*?)</textarea>|data-json='([^']*)'`)
	for _, in := range []string{`<input value="{{phi .%s}}">`, `<textarea>{{phi .%s}}</textarea>`, `<input value="{{.%s}}">`, `<textarea>{{.%s}}</textarea>`} {
		for field, class := range map[string]minimize.Class{"Name": minimize.Name, "SSN": minimize.SSN, "Note": minimize.Text, "Photo": minimize.Photo} {
			page, err := execute(t, ctx, strings.ReplaceAll(in, "%s", field), c)
			if err != nil {
				t.Fatal(err)
			}
			m := input.FindStringSubmatch(page)
			if m == nil {
				t.Fatalf("no input in %s", page)
			}
			sent := html.UnescapeString(m[1] + m[2])
			if err := minimize.CheckInput(class, sent); err == nil {
				t.Errorf("%s of %s: the form sends %q back and it is accepted", in, field, sent)
			}
		}
	}
}
