// SPDX-License-Identifier: Apache-2.0

package minimizetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"log"
	"log/slog"
	"strings"
	"sync"
	"testing"
	texttemplate "text/template"

	"github.com/part164/part164/access"
	"github.com/part164/part164/minimize"
)

// A Subject is an implementation of [minimize.Value] under test. The suite
// asks it for values of the classes name and ssn only.
type Subject struct {
	// Seal keeps text under class c and returns the value as nobody has
	// revealed it, with the function that reveals it to the scope in a
	// context, through the implementation's own door, and returns what is
	// there afterwards. ctx may write the class. Reveal may be called again
	// with another context.
	Seal func(t *testing.T, ctx context.Context, c minimize.Class, text string) (sealed minimize.Value, reveal func(context.Context) minimize.Value)

	// Null returns a value of class c that is not there, revealed to the scope
	// in ctx.
	Null func(t *testing.T, ctx context.Context, c minimize.Class) minimize.Value

	// Broken returns a value of class c that did not open when it was revealed
	// to the scope in ctx. Nil leaves the test out.
	Broken func(t *testing.T, ctx context.Context, c minimize.Class) minimize.Value

	// As returns ctx with somebody who acts in Role for access.Treatment, in
	// a new scope without a policy: the suite pins one. Nil is [As].
	As func(t *testing.T, ctx context.Context) context.Context
}

// Role is the role that the suite's policies speak of.
const Role = "tester"

const secret = "Zebediah Quux"

// TestValue runs the contract of [minimize.Value].
func TestValue(t *testing.T, s Subject) {
	as := func(t *testing.T, ctx context.Context, view minimize.View) context.Context {
		t.Helper()
		if s.As == nil {
			ctx = As(ctx, Role, access.Treatment, nil)
		} else {
			ctx = s.As(t, ctx)
		}
		scope, err := access.From(ctx)
		if err != nil {
			t.Fatalf("minimizetest: Subject.As: %v", err)
		}
		minimize.Pin(scope, Policy(t, Role, access.Treatment, view, minimize.Change, minimize.Name, minimize.SSN))
		return ctx
	}
	seal := func(t *testing.T, c minimize.Class, text string) (minimize.Value, func(context.Context) minimize.Value) {
		t.Helper()
		return s.Seal(t, as(t, t.Context(), minimize.Reveal), c, text)
	}

	t.Run("sealed shows nothing", func(t *testing.T) {
		v, _ := seal(t, minimize.Name, secret)
		ctx := as(t, t.Context(), minimize.Reveal)
		wantNothing(t, ctx, v, minimize.Sealed, minimize.Name)
		wantNothing(t, t.Context(), v, minimize.Sealed, minimize.Name)
		neverPrints(t, v, secret)
	})
	t.Run("revealed shows the value to its scope", func(t *testing.T) {
		_, reveal := seal(t, minimize.Name, secret)
		ctx := as(t, t.Context(), minimize.Reveal)
		v := reveal(ctx)
		r := v.Minimized(ctx)
		if r.State != minimize.Shown || r.Class != minimize.Name || r.Text != secret || fmt.Sprint(r.Value) != secret {
			t.Errorf("Minimized = %v of class %s with Value set %v, want the value shown", r.State, r.Class, r.Value != nil)
		}
		wantJSON(t, ctx, v, `{"v":"Zebediah Quux"}`)
		wantPage(t, ctx, v, "shown|"+secret+"|")
		neverPrints(t, v, secret)
	})
	t.Run("masked shows the mask", func(t *testing.T) {
		const ssn = "219-09-9999"
		_, reveal := seal(t, minimize.SSN, ssn)
		ctx := as(t, t.Context(), minimize.Mask)
		v := reveal(ctx)
		r := v.Minimized(ctx)
		if r.State != minimize.Partly || r.Class != minimize.SSN || r.Text != "***-**-9999" || r.Value != nil {
			t.Errorf("Minimized = %v of class %s with text %q and Value set %v, want the mask", r.State, r.Class, r.Text, r.Value != nil)
		}
		wantJSON(t, ctx, v, `{"v":"***-**-9999"}`)
		wantPage(t, ctx, v, "masked|***-**-9999|")
		neverPrints(t, v, ssn)
	})
	t.Run("withheld shows nothing", func(t *testing.T) {
		_, reveal := seal(t, minimize.Name, secret)
		ctx := as(t, t.Context(), minimize.Withhold)
		v := reveal(ctx)
		wantNothing(t, ctx, v, minimize.Withheld, minimize.Name)
		neverPrints(t, v, secret)
	})
	t.Run("another scope shows nothing", func(t *testing.T) {
		_, reveal := seal(t, minimize.Name, secret)
		ctx := as(t, t.Context(), minimize.Reveal)
		v := reveal(ctx)
		wantNothing(t, as(t, t.Context(), minimize.Reveal), v, minimize.Sealed, minimize.Name)
		other := access.ForPurpose(ctx, access.Treatment) // the same person, for the same purpose, once more
		if scope, err := access.From(other); err == nil {
			minimize.Pin(scope, Policy(t, Role, access.Treatment, minimize.Reveal, minimize.No, minimize.Name))
		}
		wantNothing(t, other, v, minimize.Sealed, minimize.Name)
		wantNothing(t, t.Context(), v, minimize.Sealed, minimize.Name)
		if r := v.Minimized(ctx); r.State != minimize.Shown {
			t.Errorf("to its own scope it is %v afterwards, want shown", r.State)
		}
	})
	t.Run("a value revealed again leaves the first scope's as it was", func(t *testing.T) {
		_, reveal := seal(t, minimize.Name, secret)
		first, second := as(t, t.Context(), minimize.Reveal), as(t, t.Context(), minimize.Mask)
		v := reveal(first)
		w := reveal(second)
		wantNothing(t, second, v, minimize.Sealed, minimize.Name)
		wantNothing(t, first, w, minimize.Sealed, minimize.Name)
	})
	t.Run("an ended scope shows nothing", func(t *testing.T) {
		_, reveal := seal(t, minimize.Name, secret)
		ctx := as(t, t.Context(), minimize.Reveal)
		v := reveal(ctx)
		scope, err := access.From(ctx)
		if err != nil {
			t.Fatal(err)
		}
		scope.End()
		wantNothing(t, ctx, v, minimize.Sealed, minimize.Name)
	})
	t.Run("a cancelled request shows nothing", func(t *testing.T) {
		_, reveal := seal(t, minimize.Name, secret)
		request, cancel := context.WithCancel(t.Context())
		defer cancel()
		ctx := as(t, request, minimize.Reveal)
		v := reveal(ctx)
		cancel()
		wantNothing(t, ctx, v, minimize.Sealed, minimize.Name)
	})
	t.Run("null is null, not withheld", func(t *testing.T) {
		ctx := as(t, t.Context(), minimize.Reveal)
		v := s.Null(t, ctx, minimize.Name)
		if r := v.Minimized(ctx); r.State != minimize.Null || r.Value != nil {
			t.Errorf("Minimized = %v with Value set %v, want null", r.State, r.Value != nil)
		}
		wantJSON(t, ctx, v, `{"v":null}`)
		wantPage(t, ctx, v, "none||")
	})
	t.Run("unavailable is named so", func(t *testing.T) {
		if s.Broken == nil {
			t.Skip("Subject.Broken is nil")
		}
		ctx := as(t, t.Context(), minimize.Reveal)
		v := s.Broken(t, ctx, minimize.Name)
		if r := v.Minimized(ctx); r.State != minimize.Unavailable || r.Value != nil || r.Class != minimize.Name {
			t.Errorf("Minimized = %v of class %s with Value set %v, want unavailable", r.State, r.Class, r.Value != nil)
		}
		wantJSON(t, ctx, v, `{"_unavailable":["v"]}`)
		if page := page(t, ctx, v); !strings.HasPrefix(page, "unavailable|<span") {
			t.Errorf("page = %q, want unavailable", page)
		}
	})
	t.Run("concurrent readers", func(t *testing.T) {
		_, reveal := seal(t, minimize.Name, secret)
		ctx := as(t, t.Context(), minimize.Reveal)
		v := reveal(ctx)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					if r := v.Minimized(ctx); r.State != minimize.Shown {
						t.Errorf("Minimized = %v, want shown", r.State)
					}
					if r := v.Minimized(context.Background()); r.State != minimize.Sealed {
						t.Errorf("without a scope Minimized = %v, want sealed", r.State)
					}
				}
			})
		}
		wg.Wait()
	})
}

// wantNothing holds that nothing of the value is shown in ctx.
func wantNothing(t *testing.T, ctx context.Context, v minimize.Value, state minimize.State, c minimize.Class) {
	t.Helper()
	r := v.Minimized(ctx)
	if r.State != state || r.Class != c || r.Text != minimize.Placeholder(c) || r.Value != nil {
		t.Errorf("Minimized = %v of class %s, placeholder %v, Value set %v; want %v, class %s, the placeholder and no Value",
			r.State, r.Class, r.Text == minimize.Placeholder(c), r.Value != nil, state, c)
	}
	wantJSON(t, ctx, v, `{"_withheld":["v"]}`)
	if page := page(t, ctx, v); !strings.HasPrefix(page, `withheld|<span class="phi-withheld" title="`) {
		t.Errorf("page = %q, want withheld with the reason", page)
	}
	if b, err := minimize.JSON(ctx, []minimize.Value{v}); err != nil || !bytes.HasPrefix(b, []byte(`["[PHI`)) {
		t.Errorf("in a list: %s, %v, want the placeholder", b, err)
	}
}

func wantJSON(t *testing.T, ctx context.Context, v minimize.Value, want string) {
	t.Helper()
	b, err := minimize.JSON(ctx, struct {
		V minimize.Value `json:"v"`
	}{v})
	if err != nil || string(b) != want {
		t.Errorf("JSON = %s, %v, want %s", b, err, want)
	}
}

func wantPage(t *testing.T, ctx context.Context, v minimize.Value, prefix string) {
	t.Helper()
	if page := page(t, ctx, v); !strings.HasPrefix(page, prefix) {
		t.Errorf("page = %q, want it to begin with %q", page, prefix)
	}
}

func page(t *testing.T, ctx context.Context, v minimize.Value) string {
	t.Helper()
	tmpl, err := template.New("").Funcs(minimize.Funcs(ctx)).Parse(`{{state .}}|{{phi .}}|{{why .}}`)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := tmpl.Execute(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// neverPrints holds that no ordinary way of printing v, revealed or not, shows
// text.
func neverPrints(t *testing.T, v minimize.Value, text string) {
	t.Helper()
	type holder struct{ V minimize.Value }
	type private struct{ v minimize.Value }
	needles := []string{
		text, hex.EncodeToString([]byte(text)), strings.ToUpper(hex.EncodeToString([]byte(text))),
		base64.StdEncoding.EncodeToString([]byte(text))[:12], strings.Trim(fmt.Sprint([]byte(text)), "[]"),
	}
	check := func(path, out string) {
		t.Helper()
		for _, n := range needles {
			if strings.Contains(out, n) {
				t.Errorf("%s prints the plaintext", path)
				return
			}
		}
	}
	for name, x := range map[string]any{
		"the value": v, "a pointer": &v, "a struct": holder{v}, "a pointer to a struct": &holder{v},
		"an unexported field": private{v}, "a slice": []minimize.Value{v}, "a slice of any": []any{v},
		"a map": map[string]minimize.Value{"k": v}, "a map of structs": map[string]holder{"k": {v}}, "a nested struct": struct{ H holder }{holder{v}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%e", "%g", "%U", "%o", "%b", "%w", "%10v", "%-40.30s"} {
			check("fmt "+verb+" of "+name, fmt.Sprintf(verb, x))
		}
		check("fmt.Errorf of "+name, fmt.Errorf("failed: %v", x).Error())
		check("a panic with "+name, func() (out string) {
			defer func() { out = fmt.Sprint(recover()) }()
			panic(x)
		}())
		var b bytes.Buffer
		log.New(&b, "", 0).Print(x)
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "x", x, slog.Group("g", "x", x))
		slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "x", x, slog.Group("g", "x", x))
		check("a log of "+name, b.String())
		j, _ := json.Marshal(x) // an error is as good as a placeholder
		check("encoding/json of "+name, string(j))
		m, _ := xml.Marshal(x)
		check("encoding/xml of "+name, string(m))
		b.Reset()
		_ = gob.NewEncoder(&b).Encode(x)
		check("encoding/gob of "+name, b.String())
		b.Reset()
		_ = texttemplate.Must(texttemplate.New("").Parse(`{{.}} {{printf "%v" .}}`)).Execute(&b, x)
		_ = template.Must(template.New("").Parse(`{{.}} <a title="{{.}}">{{.}}</a><script>x={{.}}</script>`)).Execute(&b, x)
		check("a template without the functions, of "+name, b.String())
	}
}
