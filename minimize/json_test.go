// SPDX-License-Identifier: Apache-2.0

package minimize_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/minimize/minimizetest"
)

type sealed = minimizetest.Value

type record struct {
	ID      string
	Version int64
}

type visit struct {
	record
	Patient string            `json:"patient" phi:"subject"`
	When    time.Time         `json:"when" phi:"date,clear"`
	ZIP     string            `json:"zip,omitempty" phi:"zip,clear"`
	Phones  []string          `json:"phones" phi:"phone,clear"`
	Born    *time.Time        `json:"born" phi:"dob,clear"`
	Age     int               `json:"age,string" phi:"age,clear"`
	Note    map[string]string `json:"note" phi:"text,clear"`
	Room    string            `json:"room" phi:"-"`
	Name    sealed            `json:"name" phi:"name"`
	Any     any               `json:"any" phi:"ssn,clear"`
}

func newVisit() visit {
	born := time.Date(1980, 2, 29, 0, 0, 0, 0, time.UTC)
	return visit{
		record: record{"id-1", 3}, Patient: "pat-1", When: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), ZIP: "02139",
		Phones: []string{"617-555-0123", "911"}, Born: &born, Age: 46, Note: map[string]string{"nurse": "secret"}, Room: "R<2>",
		Name: minimizetest.Seal(minimize.Name, "Jane Roe"), Any: "219-09-9999",
	}
}

// scope returns a context of a nurse under rules that give views to classes.
func scope(t testing.TB, views map[minimize.View][]minimize.Class) context.Context {
	t.Helper()
	var rules []minimize.Rule
	for v, cs := range views {
		rules = append(rules, minimize.Rule{Role: "nurse", Purposes: []access.Purpose{access.Treatment}, Classes: cs, View: v})
	}
	p, err := minimize.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return minimizetest.As(t.Context(), "nurse", access.Treatment, p)
}

func render(t *testing.T, ctx context.Context, v any) string {
	t.Helper()
	b, err := minimize.JSON(ctx, v)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b) {
		t.Errorf("no valid JSON: %s", b)
	}
	return string(b)
}

func TestClearFieldsGoThroughTheViews(t *testing.T) {
	t.Parallel()
	all := map[minimize.View][]minimize.Class{minimize.Reveal: minimize.Classes()}
	v := newVisit()

	ctx := scope(t, all)
	v.Name = v.Name.Reveal(ctx)
	want := `{"ID":"id-1","Version":3,"patient":"pat-1","when":"2026-11-22T09:00:00Z","zip":"02139","phones":["617-555-0123","911"],` +
		`"born":"1980-02-29T00:00:00Z","age":"46","note":{"nurse":"secret"},"room":"R\u003c2\u003e","name":"Jane Roe","any":"219-09-9999"}`
	if got := render(t, ctx, v); got != want {
		t.Errorf("all revealed:\n got %s\nwant %s", got, want)
	}

	ctx = scope(t, map[minimize.View][]minimize.Class{
		minimize.Mask:       {minimize.Phone, minimize.SSN, minimize.Name},
		minimize.Generalise: {minimize.Date, minimize.ZIP, minimize.DOB, minimize.Age},
	})
	w := newVisit()
	w.Name = w.Name.Reveal(ctx)
	want = `{"ID":"id-1","Version":3,"patient":"pat-1","when":"2026","zip":"021","phones":["***-***-0123","***"],` +
		`"born":"1980","age":"40-49","room":"R\u003c2\u003e","name":"J*** R***","any":"***-**-9999","_withheld":["note"]}`
	if got := render(t, ctx, w); got != want {
		t.Errorf("in part:\n got %s\nwant %s", got, want)
	}
	if got := render(t, ctx, &w); got != want {
		t.Errorf("by pointer:\n got %s\nwant %s", got, want)
	}
	if got := render(t, ctx, []visit{w}); got != "["+want+"]" {
		t.Errorf("in a list:\n got %s\nwant [%s]", got, want)
	}

	nothing := `{"ID":"id-1","Version":3,"patient":"pat-1","room":"R\u003c2\u003e","_withheld":["when","zip","phones","born","age","note","name","any"]}`
	ended := scope(t, all)
	v = newVisit()
	v.Name = v.Name.Reveal(ended)
	end(t, ended)
	for name, ctx := range map[string]context.Context{
		"no scope":    t.Context(),
		"ended scope": ended,
		"no policy":   minimizetest.As(t.Context(), "nurse", access.Treatment, nil),
		"no rule":     minimizetest.As(t.Context(), "nurse", access.Payment, minimize.Starter()),
		"no role":     minimizetest.As(t.Context(), "janitor", access.Treatment, minimize.Starter()),
	} {
		if got := render(t, ctx, v); got != nothing {
			t.Errorf("%s:\n got %s\nwant %s", name, got, nothing)
		}
	}
	// Withheld is withheld, whether or not there is a value.
	want = `{"ID":"","Version":0,"patient":"","room":"","name":null,"_withheld":["when","zip","phones","born","age","note","any"]}`
	if got := render(t, minimizetest.As(t.Context(), "nurse", access.Treatment, nil), visit{}); got != want {
		t.Errorf("zero:\n got %s\nwant %s", got, want)
	}
}

func end(t *testing.T, ctx context.Context) {
	t.Helper()
	s, err := access.From(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.End()
}

// a chatty Value shows itself to everybody, which an implementation must not.
type chatty struct{ N string }

func (c chatty) Minimized(context.Context) minimize.Rendering {
	return minimize.Rendering{State: minimize.Shown, Class: minimize.Name, Text: c.N, Value: c.N}
}

// byPtr is a Value by its address only.
type byPtr struct{ chatty chatty }

func (b *byPtr) Minimized(ctx context.Context) minimize.Rendering { return b.chatty.Minimized(ctx) }

func TestEndedScopeSeesNothingWhateverAValueSays(t *testing.T) {
	t.Parallel()
	ctx := scope(t, map[minimize.View][]minimize.Class{minimize.Reveal: minimize.Classes()})
	v := struct {
		A chatty
		B byPtr
		C *byPtr
	}{chatty{"x"}, byPtr{chatty{"y"}}, &byPtr{chatty{"z"}}}
	if got, want := render(t, ctx, v), `{"A":"x","B":"y","C":"z"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	end(t, ctx)
	for _, ctx := range []context.Context{ctx, t.Context()} {
		if got, want := render(t, ctx, v), `{"_withheld":["A","B","C"]}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	ctx := scope(t, map[minimize.View][]minimize.Class{minimize.Reveal: {minimize.Name, minimize.Clinical}, minimize.Mask: {minimize.SSN}})
	name := minimizetest.Seal(minimize.Name, "Jane <Roe>").Reveal(ctx)
	type row struct {
		Shown   sealed  `json:"shown"`
		Partly  sealed  `json:"partly"`
		Null    sealed  `json:"null"`
		Empty   sealed  `json:"empty,omitempty"`
		Zero    *sealed `json:"zero,omitzero"`
		Nil     *sealed `json:"nil"`
		Sealed  sealed  `json:"sealed"`
		Hidden  sealed  `json:"<hidden>,omitempty"`
		Broken  sealed  `json:"broken"`
		Nested  any     `json:"nested"`
		Pointer *sealed `json:"pointer"`
	}
	v := row{
		Shown: name, Partly: minimizetest.Seal(minimize.SSN, "219-09-9999").Reveal(ctx),
		Sealed: minimizetest.Seal(minimize.Name, "x"), Hidden: minimizetest.Seal(minimize.Text, "x").Reveal(ctx),
		Broken: minimizetest.Broken(minimize.Name).Reveal(ctx), Pointer: &name,
		Nested: map[string]any{
			"list": []any{name, minimizetest.Seal(minimize.Text, "x"), minimizetest.Broken(minimize.Name).Reveal(ctx), sealed{}},
			"gone": minimizetest.Seal(minimize.Text, "x"), "bad": minimizetest.Broken(minimize.Name).Reveal(ctx), "a": &name,
			"deep": minimizetest.Seal(minimize.Clinical, []sealed{name, minimizetest.Seal(minimize.Text, "x")}).Reveal(ctx),
		},
	}
	want := `{"shown":"Jane \u003cRoe\u003e","partly":"***-**-9999","null":null,"nil":null,` +
		`"nested":{"a":"Jane \u003cRoe\u003e","deep":["Jane \u003cRoe\u003e","[PHI:text]"],"list":["Jane \u003cRoe\u003e","[PHI:text]","[PHI:name]",null],"_withheld":["gone"],"_unavailable":["bad"]},` +
		`"pointer":"Jane \u003cRoe\u003e","_withheld":["sealed","\u003chidden\u003e"],"_unavailable":["broken"]}`
	if got := render(t, ctx, v); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if got, want := render(t, ctx, minimizetest.Seal(minimize.SSN, "x")), `"[PHI:ssn]"`; got != want {
		t.Errorf("at the top: got %s, want %s", got, want)
	}
	if got, want := render(t, ctx, struct{ A, B sealed }{B: minimizetest.Seal(minimize.SSN, "x")}), `{"A":null,"_withheld":["B"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Renderings of typed values are those of their types.
func TestShownValuesKeepTheirJSON(t *testing.T) {
	t.Parallel()
	ctx := scope(t, map[minimize.View][]minimize.Class{minimize.Reveal: minimize.Classes()})
	for _, v := range []any{"<&>", 1, 1.5, true, time.Unix(0, 0).UTC(), []string{"a"}, map[string]int{"a": 1}, record{"a", 1}, nil} {
		want, err := json.Marshal(struct{ V any }{v})
		if err != nil {
			t.Fatal(err)
		}
		if got := render(t, ctx, struct{ V sealed }{minimizetest.Seal(minimize.Clinical, v).Reveal(ctx)}); got != string(want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	again := minimizetest.Seal(minimize.Name, minimizetest.Seal(minimize.Name, "x").Reveal(ctx)).Reveal(ctx)
	if got, want := render(t, ctx, []any{again}), `["[PHI:name]"]`; got != want {
		t.Errorf("a value that shows a value: got %s, want %s", got, want)
	}
}

type selfRendered struct {
	Born time.Time `phi:"dob,clear"`
}

func (s selfRendered) MarshalJSON() ([]byte, error) { return json.Marshal(s.Born) }

type textRendered struct {
	Inner []struct {
		Born time.Time `phi:"dob,clear"`
	}
}

func (s *textRendered) MarshalText() ([]byte, error) { return nil, nil }

// selfRenderedSealed has its own MarshalJSON, but its PHI keeps itself.
type selfRenderedSealed struct {
	Name sealed `phi:"name"`
}

func (s selfRenderedSealed) MarshalJSON() ([]byte, error) { return json.Marshal(s.Name) }

type (
	Embed1 struct{ A string }
	TwinA  struct {
		X sealed `phi:"name"`
	}
	TwinB struct {
		X sealed `phi:"name"`
	}
)

func TestRefusedTypes(t *testing.T) {
	t.Parallel()
	ctx := scope(t, map[minimize.View][]minimize.Class{minimize.Reveal: minimize.Classes()})
	for want, v := range map[string]any{
		"field Plain has no phi tag": struct {
			Name  sealed `phi:"name"`
			Plain string
		}{},
		"field Gone has no phi tag": struct {
			Name sealed `phi:"name"`
			Gone string `json:"-"`
		}{},
		`unknown class "nmae"`: struct {
			Name sealed `phi:"nmae"`
		}{},
		"_withheld": struct {
			Name sealed `phi:"name"`
			List string `phi:"-" json:"_withheld"`
		}{},
		"_unavailable": struct {
			Name sealed
			List string `json:"_unavailable"`
		}{},
		"holds the clear PHI field Born":       selfRendered{},
		"holds the clear PHI field Inner.Born": textRendered{},
		"is an embedded struct with a phi tag": struct {
			Embed1 `phi:"name"`
		}{},
		"is an embedded PHI value": struct {
			chatty
			byPtr
		}{},
		"have one JSON name": struct {
			TwinA
			TwinB
		}{},
	} {
		for _, v := range []any{v, []any{v}, map[string]any{"k": &v}} {
			for _, ctx := range []context.Context{ctx, t.Context()} {
				b, err := minimize.JSON(ctx, v)
				if err == nil || b != nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%T: %s, %v, want an error saying %q", v, b, err, want)
				}
			}
		}
	}
	if got, want := render(t, ctx, selfRenderedSealed{minimizetest.Seal(minimize.Name, "x").Reveal(ctx)}), `"[PHI:name]"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// A key of data that looks like a list of ours fails only where it would lie.
	hidden := map[string]any{"_withheld": []string{"x"}, "ssn": minimizetest.Seal(minimize.SSN, "x")}
	if b, err := minimize.JSON(ctx, hidden); err == nil {
		t.Errorf("a map with a key _withheld of its own: %s", b)
	}
	delete(hidden, "ssn")
	if got, want := render(t, ctx, hidden), `{"_withheld":["x"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestErrorsHoldNoValue(t *testing.T) {
	t.Parallel()
	ctx := scope(t, map[minimize.View][]minimize.Class{minimize.Reveal: minimize.Classes()})
	for _, v := range []any{
		struct {
			A string `phi:"name,clear"`
			B func() `phi:"-"`
		}{A: "Jane Roe"},
		map[string]any{"Jane Roe": make(chan int)},
		[]any{minimizetest.Seal(minimize.Name, "Jane Roe").Reveal(ctx), func() {}},
	} {
		b, err := minimize.JSON(ctx, v)
		var unsupported *json.UnsupportedTypeError
		if !errors.As(err, &unsupported) || b != nil || strings.Contains(err.Error(), "Jane") {
			t.Errorf("JSON = %s, %v", b, err)
		}
	}
}

type failing struct{ httptest.ResponseRecorder }

func (f *failing) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestWriteJSON(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	if err := minimize.WriteJSON(t.Context(), w, newVisit()); err != nil {
		t.Fatal(err)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type = %q", got)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q", got)
	}
	if got, want := w.Body.String(), render(t, t.Context(), newVisit())+"\n"; got != want {
		t.Errorf("body %q, want %q", got, want)
	}
	w = httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/fhir+json")
	w.Header().Set("Cache-Control", "public")
	if err := minimize.WriteJSON(t.Context(), w, 1); err != nil || w.Header().Get("Content-Type") != "application/fhir+json" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v, %v", w.Header(), err)
	}
	w = httptest.NewRecorder()
	if err := minimize.WriteJSON(t.Context(), w, func() {}); err == nil || w.Body.Len() > 0 || len(w.Header()) > 0 {
		t.Errorf("after an error: %v, %q, %v", err, w.Body, w.Header())
	}
	var b bytes.Buffer
	if err := minimize.WriteJSON(t.Context(), &b, 1); err != nil || b.String() != "1\n" {
		t.Errorf("to a buffer: %q, %v", &b, err)
	}
	if err := minimize.WriteJSON(t.Context(), &failing{}, 1); err == nil {
		t.Error("a failed write is no error")
	}
}

// code is a text of its own kind, by pointer for its mask.
type code struct{ a, b string }

func (c code) MarshalText() ([]byte, error) {
	if c.a == "" {
		return nil, errors.New("no code")
	}
	return []byte(c.a + "-" + c.b), nil
}

func TestMasksOfAllKinds(t *testing.T) {
	t.Parallel()
	ctx := scope(t, map[minimize.View][]minimize.Class{
		minimize.Mask:       {minimize.MRN, minimize.Name},
		minimize.Generalise: {minimize.Age, minimize.Date, minimize.DOB, minimize.ZIP},
	})
	day := time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)
	n, s := 46, "Örjan Ågren"
	ps := &s
	type list []string
	for want, v := range map[string]any{
		`"***789"`: struct {
			V uint64 `phi:"mrn,clear"`
		}{123456789},
		`"***678"`: struct {
			V float64 `phi:"mrn,clear"`
		}{12345678},
		`"***"`: struct {
			V bool `phi:"mrn,clear"`
		}{true},
		`"40-49"`: struct {
			V *int `phi:"age,clear"`
		}{&n},
		`"Ö*** Å***"`: struct {
			V **string `phi:"name,clear"`
		}{&ps},
		`"***456"`: struct {
			V code `phi:"mrn,clear"`
		}{code{"0123", "456"}},
		`"***457"`: struct {
			V *code `phi:"mrn,clear"`
		}{&code{"0123", "457"}},
		`"***BCD"`: struct {
			V []byte `phi:"mrn,clear"`
		}{[]byte("12345ABCD")},
		`["***","***987",null]`: struct {
			V []any `phi:"mrn,clear"`
		}{[]any{"1", 123456987, nil}},
		`[["J***"],null]`: struct {
			V [2]list `phi:"name,clear"`
		}{[2]list{{"Jane"}}},
		`["2020",""]`: struct {
			V []time.Time `phi:"date,clear"`
		}{[]time.Time{day, {}}},
		`["[PHI:zip]","000"]`: struct {
			V []any `phi:"zip,clear"`
		}{[]any{struct{ A int }{1}, day}},
		`["[PHI:age]"]`: struct {
			V []time.Time `phi:"age,clear"`
		}{[]time.Time{day}},
		`[null,"[PHI:text]"]`: struct {
			V []any `phi:"name,clear"`
		}{[]any{sealed{}, minimizetest.Seal(minimize.Text, "x")}},
	} {
		if got := render(t, ctx, v); got != `{"V":`+want+`}` {
			t.Errorf("%T: got %s, want %s", v, got, want)
		}
	}
	for _, v := range []any{
		struct {
			V code `phi:"mrn,clear"`
		}{},
		struct {
			V map[string]string `phi:"name,clear"`
		}{map[string]string{"Jane": "Roe"}},
		struct {
			V record `phi:"name,clear"`
		}{},
	} {
		if got := render(t, ctx, v); got != `{"_withheld":["V"]}` {
			t.Errorf("%T: got %s, want it withheld", v, got)
		}
	}
	type cycle struct {
		V any `phi:"name,clear"`
	}
	var c cycle
	c.V = []any{&c.V}
	if b, err := minimize.JSON(ctx, c); err == nil {
		t.Errorf("a cycle of clear PHI: %s", b)
	}
}

// Encoders are used again: nothing of one scope's rendering may reach another's.
func TestConcurrentScopes(t *testing.T) {
	t.Parallel()
	p := minimize.Starter()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			role, purpose, want := "nurse", access.Treatment, `{"name":"Jane Roe","note":"seen","_withheld":["account"]}`
			if i%2 == 0 {
				role, purpose, want = "billing", access.Payment, `{"name":"Jane Roe","account":"A-1","_withheld":["note"]}`
			}
			for range 200 {
				ctx := minimizetest.As(t.Context(), role, purpose, p)
				b, err := minimize.JSON(ctx, struct {
					Name    sealed `json:"name" phi:"name"`
					Note    sealed `json:"note" phi:"text"`
					Account string `json:"account" phi:"account,clear"`
				}{minimizetest.Seal(minimize.Name, "Jane Roe").Reveal(ctx), minimizetest.Seal(minimize.Text, "seen").Reveal(ctx), "A-1"})
				if err != nil || string(b) != want {
					t.Errorf("%s: %s, %v, want %s", role, b, err, want)
					return
				}
				if _, err := minimize.JSON(ctx, []any{"x", func() {}}); err == nil {
					t.Error("a func is rendered")
				}
			}
		})
	}
	wg.Wait()
}

// A result is the caller's own: the next rendering does not change it.
func TestResultIsTheCallers(t *testing.T) {
	t.Parallel()
	ctx := minimizetest.As(t.Context(), "nurse", access.Treatment, minimize.Starter())
	a := render(t, ctx, "first")
	b, err := minimize.JSON(ctx, "first")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		render(t, ctx, "other")
	}
	if string(b) != a {
		t.Errorf("a result changed to %s", b)
	}
}
