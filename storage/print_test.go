// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"expvar"
	"fmt"
	"html/template"
	"io"
	"log"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	texttemplate "text/template"
	"time"

	"github.com/davecgh/go-spew/spew"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/minimize/minimizetest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

// What the matrix looks for: a plaintext and the forms that printers give it.
const printed = "Zebediah Quux-Waldo"

func printedForms(text string) []string {
	raw := []byte(text)
	half := raw[:(len(raw)+1)/2]
	return []string{
		text, strings.ToLower(text), strings.ToUpper(text),
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), strings.Trim(fmt.Sprintf("% x", raw), " "),
		strings.Trim(fmt.Sprint(half), "[]"), base64.StdEncoding.EncodeToString(raw)[:len(raw)],
		strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", half), "[]byte{"), "}"),
		strings.Trim(fmt.Sprintf("%U", []rune(text)[:4]), "[]"), strings.Trim(fmt.Sprintf("%o", half), "[]"), strings.Trim(fmt.Sprintf("%b", half), "[]"),
		base64.RawStdEncoding.EncodeToString(half)[:len(half)],
	}
}

func leaksIn(out string) bool {
	return containsAny(out, append(printedForms(printed), "Zebediah", "Quux-Waldo"))
}

func containsAny(out string, forms []string) bool {
	return slices.ContainsFunc(forms, func(f string) bool { return strings.Contains(out, f) })
}

// printPaths calls visit with what each way of printing makes of v.
func printPaths[V any](v V, visit func(path, out string)) {
	type exported struct{ V V }
	type named struct {
		V V `json:"v" xml:"v"`
	}
	type private struct{ v V }
	type nested struct {
		In exported
		P  *V
	}
	wrapped := []struct {
		name string
		x    any
	}{
		{"value", v}, {"pointer", &v}, {"pointer to pointer", func() any { p := &v; return &p }()},
		{"struct", exported{v}}, {"pointer to struct", &exported{v}}, {"tagged struct", named{v}},
		{"unexported field", private{v}}, {"pointer to unexported field", &private{v}},
		{"slice", []V{v}}, {"slice of pointers", []*V{&v}}, {"array", [1]V{v}}, {"slice of structs", []exported{{v}}},
		{"map value", map[string]V{"k": v}}, {"map of structs", map[string]exported{"k": {v}}}, {"map of any", map[string]any{"k": v}},
		{"any in a slice", []any{v, &v}}, {"interface field", struct{ V any }{v}}, {"nested", nested{exported{v}, &v}},
		{"channel element", func() any { c := make(chan V, 1); c <- v; return c }()},
		{"function that returns it", func() V { return v }},
		{"reflect.Value", reflect.ValueOf(v)}, {"fmt.Stringer", stringerOf(v)},
	}
	spews := map[string]*spew.ConfigState{
		"":               {Indent: " "},
		" by reflection": {Indent: " ", DisableMethods: true, DisablePointerMethods: true, DisableCapacities: true},
	}
	verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "% X", "%d", "%T %v", "%10.3v", "%t", "%c", "%e", "%U", "%p", "%w", "%!", "%[1]*[1]v"}
	for _, w := range wrapped {
		for _, verb := range verbs {
			visit("fmt "+verb+" of "+w.name, fmt.Sprintf(verb, w.x, w.x))
		}
		visit("Sprint of "+w.name, fmt.Sprint(w.x)+fmt.Sprintln(w.x)+string(fmt.Append(nil, w.x)))
		err := fmt.Errorf("save %v: %w", w.x, io.EOF)
		visit("Errorf of "+w.name, err.Error()+errors.Join(err, fmt.Errorf("%+v", w.x)).Error()+fmt.Sprintf("%#v", err))
		visit("panic with "+w.name, func() (out string) {
			defer func() { r := recover(); out = fmt.Sprint(r) + fmt.Sprintf("%#v", r) }()
			panic(w.x)
		}())
		j, jerr := json.Marshal(w.x)
		i, _ := json.MarshalIndent(w.x, "", " ")
		visit("json of "+w.name, string(j)+string(i)+fmt.Sprint(jerr))
		xm, xerr := xml.Marshal(w.x)
		visit("xml of "+w.name, string(xm)+fmt.Sprint(xerr))
		var b bytes.Buffer
		gerr := gob.NewEncoder(&b).Encode(w.x)
		visit("gob of "+w.name, b.String()+fmt.Sprint(gerr))
		b.Reset()
		terr := texttemplate.Must(texttemplate.New("").Parse(`{{.}}|{{printf "%v %s" . .}}|{{print .}}|{{html .}}|{{js .}}|{{urlquery .}}`)).Execute(&b, w.x)
		visit("text/template of "+w.name, b.String()+fmt.Sprint(terr))
		b.Reset()
		terr = template.Must(template.New("").Parse(`<p title="{{.}}">{{.}}</p><a href="/x?y={{.}}">{{.}}</a><script>var x = {{.}}</script><style>p{color:{{.}}}</style>`)).Execute(&b, w.x)
		visit("html/template of "+w.name, b.String()+fmt.Sprint(terr))
		b.Reset()
		log.New(&b, "", log.Lshortfile).Println(w.x)
		visit("log of "+w.name, b.String())
		for name, h := range map[string]slog.Handler{"text": slog.NewTextHandler(&b, nil), "JSON": slog.NewJSONHandler(&b, nil)} {
			b.Reset()
			slog.New(h).With("w", w.x).WithGroup("g").Info("m", "x", w.x, slog.Any("y", w.x), slog.Group("h", "z", w.x))
			visit("slog "+name+" of "+w.name, b.String())
		}
		for name, enc := range map[string]zapcore.Encoder{"JSON": zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), "console": zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())} {
			b.Reset()
			l := zap.New(zapcore.NewCore(enc, zapcore.AddSync(&b), zap.DebugLevel))
			l.Info("m", zap.Any("x", w.x), zap.Reflect("y", w.x), zap.Any("z", []any{w.x}), zap.Dict("d", zap.Any("x", w.x)))
			if s, ok := w.x.(fmt.Stringer); ok {
				l.With(zap.Stringer("s", s)).Warn("m", zap.Stringers("t", []fmt.Stringer{s, s}), zap.Object("o", zapObject{w.x}), zap.Inline(zapObject{w.x}))
			}
			visit("zap "+name+" of "+w.name, b.String())
			b.Reset()
			s := l.Sugar()
			s.Infow("m", "x", w.x)
			s.Infof("%v %+v %s", w.x, w.x, w.x)
			s.Info(w.x)
			s.With("k", w.x).Infoln(w.x)
			visit("zap Sugar "+name+" of "+w.name, b.String())
		}
		for name, h := range map[string]slog.Handler{"text": slog.NewTextHandler(&b, nil), "JSON": slog.NewJSONHandler(&b, nil)} {
			b.Reset()
			slog.New(h).LogAttrs(context.Background(), slog.LevelError, "m", slog.GroupAttrs("g", slog.Any("x", w.x), slog.Attr{Key: "v", Value: slog.AnyValue(w.x).Resolve()}), slog.Any("l", logValuer{w.x}))
			visit("slog attributes "+name+" of "+w.name, b.String())
		}
		for name, c := range spews {
			out := c.Sdump(w.x) + c.Sprintf("%v %+v %#v %#+v", w.x, w.x, w.x, w.x)
			if strings.Contains(out, "PANIC=") { // how spew says that String crashed
				out += printed
			}
			visit("spew"+name+" of "+w.name, out)
		}
		visit("cmp of "+w.name, diff(w.x, nil)+diff(nil, w.x)+diff(w.x, w.x)+diff(w.x, wrappedZero(w.x)))
		visit("expvar of "+w.name, expvar.Func(func() any { return w.x }).String())
		b.Reset()
		tw := tabwriter.NewWriter(&b, 0, 8, 1, ' ', 0)
		fmt.Fprintf(tw, "%v\t%v\n", w.x, w.x)
		_ = tw.Flush()
		visit("tabwriter of "+w.name, b.String())
		visit("reflection of "+w.name, walk(reflect.ValueOf(w.x), 0))
		q := "SELECT ?"
		visit("GORM's Explain of "+w.name, logger.ExplainSQL(q, nil, `'`, w.x))
	}
}

// diff is what go-cmp reports, with and without a way to unexported fields. It
// panics where it may not look.
func diff(a, b any) (out string) {
	defer func() {
		if r := recover(); r != nil {
			out += fmt.Sprint(r)
		}
	}()
	out = cmp.Diff(a, b, cmp.Exporter(func(reflect.Type) bool { return true }))
	return out + cmp.Diff(a, b)
}

// wrappedZero is the zero value of v's type.
func wrappedZero(v any) any { return reflect.Zero(reflect.TypeOf(v)).Interface() }

type zapObject struct{ x any }

func (o zapObject) MarshalLogObject(e zapcore.ObjectEncoder) error {
	return e.AddReflected("x", o.x)
}

type logValuer struct{ x any }

func (l logValuer) LogValue() slog.Value { return slog.GroupValue(slog.Any("x", l.x)) }

type stringer struct{ s fmt.Stringer }

func (s stringer) String() string { return "it is " + s.s.String() }

// stringerOf embeds v in a type that prints it by its own String.
func stringerOf(v any) any {
	if s, ok := v.(fmt.Stringer); ok {
		return stringer{s}
	}
	return v
}

// walk prints what reflection reaches, unexported fields and pointers
// included, as dumpers such as spew do; functions are closed to it.
func walk(v reflect.Value, depth int) string {
	if depth > 12 || !v.IsValid() {
		return ""
	}
	switch v.Kind() {
	case reflect.String:
		return v.String() + " "
	case reflect.Bool:
		return fmt.Sprint(v.Bool(), " ")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprint(v.Int(), " ")
	case reflect.Float64:
		return fmt.Sprint(v.Float(), " ")
	case reflect.Pointer, reflect.Interface:
		return walk(v.Elem(), depth+1)
	case reflect.Struct:
		var b strings.Builder
		for i := range v.NumField() {
			b.WriteString(walk(v.Field(i), depth+1))
		}
		return b.String()
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			var raw []byte
			for i := range v.Len() {
				raw = append(raw, byte(v.Index(i).Uint()))
			}
			return string(raw) + " "
		}
		var b strings.Builder
		for i := range v.Len() {
			b.WriteString(walk(v.Index(i), depth+1))
		}
		return b.String()
	case reflect.Map:
		var b strings.Builder
		for it := v.MapRange(); it.Next(); {
			b.WriteString(walk(it.Key(), depth+1) + walk(it.Value(), depth+1))
		}
		return b.String()
	}
	return ""
}

// A leaky is what Sealed must not be: it hides from fmt, and leaks elsewhere.
type leaky struct{ secret string }

func (leaky) String() string             { return "[PHI]" }
func (leaky) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[PHI]") }

func TestNoPrintPathLeaks(t *testing.T) {
	t.Parallel()
	type Thing struct {
		storage.PatientRecord
		Text  storage.Sealed[string]            `phi:"name"`
		Bytes storage.Sealed[[]byte]            `phi:"name"`
		Map   storage.Sealed[map[string]string] `phi:"name"`
	}
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Thing{})
	ctx := physician(t)
	fresh := Thing{Text: storage.Seal(printed), Bytes: storage.Seal([]byte(printed)), Map: storage.Seal(map[string]string{"k": printed})}
	row := fresh
	if err := db.WithContext(ctx).Create(&row).Error; err != nil {
		t.Fatal(err)
	}
	var revealed Thing
	if err := db.WithContext(ctx).Take(&revealed).Error; err != nil {
		t.Fatal(err)
	}
	sealed := revealed
	if err := storage.Reveal(ctx, &revealed); err != nil {
		t.Fatal(err)
	}
	shows(t, ctx, revealed.Text, printed)
	if m, err := revealed.Map.Get(ctx); err != nil || m["k"] != printed {
		t.Fatalf("Map = %v, %v", m, err)
	}
	paths := 0
	check := func(what string) func(path, out string) {
		return func(path, out string) {
			paths++
			if leaksIn(out) {
				t.Errorf("%s, %s: leaks: %.120q", what, path, out)
			}
			if len(out) > 100_000 { // a dumper found a way to GORM's schema
				t.Errorf("%s, %s: prints %d bytes", what, path, len(out))
			}
		}
	}
	for what, x := range map[string]Thing{"not sealed yet": fresh, "created": row, "sealed": sealed, "revealed": revealed} {
		printPaths(x.Text, check(what+" string"))
		printPaths(x.Bytes, check(what+" bytes"))
		printPaths(x.Map, check(what+" map"))
		printPaths(x, check(what+" model"))
	}
	printPaths(maskedTo(t), check("masked"))
	paths += printKinds(t)
	t.Logf("%d print paths", paths)
	if paths < 300 {
		t.Errorf("%d print paths, want at least 300", paths)
	}

	// The matrix sees what leaks.
	found := map[string]bool{}
	printPaths(leaky{printed}, func(path, out string) {
		if leaksIn(out) {
			found[strings.Fields(path)[0]] = true
		}
	})
	for _, way := range []string{"fmt", "reflection", "spew"} {
		if !found[way] {
			t.Errorf("the matrix does not see a type that leaks by %s", way)
		}
	}
	all := map[string]bool{}
	printPaths(printed, func(path, out string) {
		if leaksIn(out) {
			all[strings.Fields(path)[0]] = true
		}
	})
	for _, way := range []string{"fmt", "Sprint", "Errorf", "panic", "json", "xml", "gob", "text/template", "html/template", "log", "slog", "zap", "expvar", "tabwriter", "reflection", "spew", "cmp", "GORM's"} {
		if !all[way] {
			t.Errorf("the matrix does not see a bare string by %s", way)
		}
	}
}

// printKinds prints a value of each kind in each state, and returns how many
// paths that were.
func printKinds(t *testing.T) int {
	t.Helper()
	born := time.Date(1947, time.March, 19, 4, 5, 6, 0, time.UTC)
	number := func(text string, v any) []string {
		forms := printedForms(text)
		for _, verb := range []string{"%v", "%x", "%X", "%o", "%b", "%e", "%.3e"} {
			if f := fmt.Sprintf(verb, v); !strings.Contains(f, "%!") {
				forms = append(forms, f)
			}
		}
		return forms
	}
	dates := append(printedForms("1947-03-19"), "{1947 ", "Year:1947", "(int) 1947", "1947 ")
	times := append(dates, fmt.Sprint(born.Unix()), fmt.Sprint(born.Unix()+62135596800), "Mar 19")
	policies := map[string]*minimize.Policy{
		"revealed":    minimizetest.Policy(t, "nurse", access.Treatment, minimize.Reveal, minimize.Change, minimize.MRN, minimize.DOB),
		"masked":      minimizetest.Policy(t, "nurse", access.Treatment, minimize.Mask, minimize.Change, minimize.MRN),
		"generalised": minimizetest.Policy(t, "nurse", access.Treatment, minimize.Generalise, minimize.Change, minimize.DOB),
		"withheld":    minimizetest.Policy(t, "nurse", access.Treatment, minimize.Withhold, minimize.Change, minimize.MRN, minimize.DOB),
	}
	n := 0
	for view, policy := range policies {
		n += printKind(t, policy, view, mrn(printed), printedForms(printed))
		n += printKind(t, policy, view, photo(printed), printedForms(printed))
		n += printKind(t, policy, view, []string{printed}, printedForms(printed))
		n += printKind(t, policy, view, visit{Ward: printed}, printedForms(printed))
		n += printKind(t, policy, view, &visit{Ward: printed}, printedForms(printed))
		n += printKind(t, policy, view, int64(8675309421), number("8675309421", int64(8675309421)))
		n += printKind(t, policy, view, uint32(3675309421), number("3675309421", uint32(3675309421)))
		n += printKind(t, policy, view, 98765.4321, number("98765.4321", 98765.4321))
		n += printKind(t, policy, view, true, nil)
		n += printKind(t, policy, view, born, times)
		n += printKind(t, policy, view, storage.Date{Year: 1947, Month: time.March, Day: 19}, dates)
	}
	return n
}

// kindMRN and kindDOB hold one value of a kind: classes with a mask and with a
// generalised form.
type (
	kindMRN[T any] struct {
		storage.PatientRecord
		V storage.Sealed[T] `phi:"mrn,pad"`
	}
	kindDOB[T any] struct {
		storage.PatientRecord
		V storage.Sealed[T] `phi:"dob"`
	}
)

func (kindMRN[T]) TableName() string    { return "kind_mrns" }
func (kindDOB[T]) TableName() string    { return "kind_dobs" }
func (kindMRN[T]) ResourceType() string { return "thing" }
func (kindDOB[T]) ResourceType() string { return "thing" }

var word = regexp.MustCompile(`\b[Tt]rue\b`)

func printKind[T any](t *testing.T, policy *minimize.Policy, view string, v T, forms []string) (paths int) {
	t.Helper()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Minimize, c.Access = policy, accesstest.Allow() }, &kindMRN[T]{}, &kindDOB[T]{})
	nurse := accesstest.As(t, t.Context(), "nurse", access.Treatment)
	states := map[string]storage.Sealed[T]{}
	m, d := kindMRN[T]{V: storage.Seal(v)}, kindDOB[T]{V: storage.Seal(v)}
	if view == "revealed" { // the same for each view
		states["not sealed yet"] = m.V
	}
	switch view {
	case "masked":
		if err := errors.Join(db.WithContext(nurse).Create(&m).Error, storage.Reveal(nurse, &m)); err != nil {
			t.Fatal(err)
		}
		states[view] = m.V
	default:
		if err := db.WithContext(nurse).Create(&d).Error; err != nil {
			t.Fatal(err)
		}
		states["sealed"] = d.V
		if err := storage.Reveal(nurse, &d); err != nil {
			t.Fatal(err)
		}
		states[view] = d.V
	}
	if got, err := states[view].Get(nurse); view == "revealed" && (err != nil || !reflect.DeepEqual(got, v)) {
		t.Fatalf("%T: revealed as %v, %v", v, got, err)
	}
	for state, s := range states {
		printPaths(s, func(path, out string) {
			paths++
			leaks := containsAny(out, forms)
			if forms == nil { // a bool
				leaks = word.MatchString(out)
			}
			if leaks {
				t.Errorf("%T, %s, %s: leaks: %.120q", v, state, path, out)
			}
		})
	}
	return paths
}

// A process that dies of a panic, and a test that fails, print by ways of their
// own.
func TestAChildThatDiesPrintsNoPHI(t *testing.T) {
	t.Parallel()
	const env = "PART164_TEST_DIES"
	if way := os.Getenv(env); way != "" {
		db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &valueName{})
		ctx := physician(t)
		fresh := storage.Seal(printed)
		x := valueName{V: fresh}
		if err := errors.Join(db.WithContext(ctx).Create(&x).Error, storage.Reveal(ctx, &x)); err != nil {
			t.Fatal(err)
		}
		if plain, err := x.V.Get(ctx); err != nil || plain != printed {
			t.Fatal("not revealed")
		}
		t.Log(fresh, x, &x, x.V)
		t.Errorf("alive %v %+v %#v", fresh, x, x.V)
		switch way {
		case "value":
			panic(x.V)
		case "fresh":
			panic(fresh)
		case "model":
			panic(x)
		case "error":
			panic(fmt.Errorf("save %v: %w", x.V, errors.Join(io.EOF, fmt.Errorf("%+v", x))))
		case "again":
			defer func() { panic(recover()) }()
			panic(&x)
		}
		return
	}
	for _, way := range []string{"value", "fresh", "model", "error", "again", "none"} {
		cmd := osexec.Command(os.Args[0], "-test.run=^TestAChildThatDiesPrintsNoPHI$", "-test.v")
		cmd.Env = append(os.Environ(), env+"="+way)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "alive [PHI") || way != "none" && !strings.Contains(string(out), "panic: ") {
			t.Errorf("%s: %v: %.400s", way, err, out)
		}
		if leaksIn(string(out)) {
			t.Errorf("%s: leaks: %.400s", way, out)
		}
	}
}

// maskedTo returns a value of which its scope sees the mask.
func maskedTo(t *testing.T) storage.Sealed[string] {
	t.Helper()
	type Thing struct {
		storage.PatientRecord
		Name storage.Sealed[string] `phi:"name"`
	}
	pol := minimizetest.Policy(t, "nurse", access.Treatment, minimize.Mask, minimize.Change, minimize.Name)
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Minimize, c.Access = pol, accesstest.Allow() }, &Thing{})
	nurse := accesstest.As(t, t.Context(), "nurse", access.Treatment)
	x := Thing{Name: storage.Seal(printed)}
	if err := db.WithContext(nurse).Create(&x).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(nurse, &x); err != nil {
		t.Fatal(err)
	}
	if got := x.Name.Text(nurse); got != "Z*** Q***" {
		t.Errorf("mask = %q", got)
	}
	return x.Name
}

// GORM's logger prints what it runs: sealed columns as cells, and with an app's
// own logger only where that leaves the arguments out.
func TestGORMsLoggerPrintsNoPHI(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cfg := storage.Config{KEK: cryptotest.NewKEK(), Audit: audittest.New(t), Access: rbac.Starter(), Minimize: minimize.Starter()}
	open := func(l logger.Interface) (*gorm.DB, error) {
		p, err := storage.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		db, err := gorm.Open(sqlite.Open(filepath.Join(t.TempDir(), "log.db")), &gorm.Config{Logger: l})
		if err != nil {
			t.Fatal(err)
		}
		return db, db.Use(p)
	}
	talks := func(c logger.Config) logger.Interface { return logger.New(log.New(&out, "", 0), c) }
	if _, err := open(talks(logger.Config{LogLevel: logger.Info})); !errors.Is(err, storage.ErrRefused) {
		t.Errorf("a logger that prints arguments = %v, want ErrRefused", err)
	}
	db, err := open(talks(logger.Config{LogLevel: logger.Info, ParameterizedQueries: true}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := storage.Close(db); err != nil {
			t.Error(err)
		}
	}()
	ctx := physician(t)
	if err := storage.Migrate(ctx, db, &Patient{}); err != nil {
		t.Fatal(err)
	}
	p := Patient{Name: storage.Seal(printed), MRN: storage.Seal(printed)}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		t.Fatal(err)
	}
	dup := Patient{MRN: storage.Seal(printed)}
	_ = db.WithContext(ctx).Debug().Create(&dup).Error
	_ = db.WithContext(ctx).Debug().Where(storage.Match("Name", "zebe")).Find(&[]Patient{}).Error
	_ = db.WithContext(ctx).Debug().Where("name = ?", storage.Seal(printed)).Find(&[]Patient{}).Error
	_ = db.WithContext(ctx).Debug().Model(&p).Update("name", storage.Seal(printed)).Error
	_ = db.WithContext(ctx).Debug().Delete(&p).Error
	loud := db.Session(&gorm.Session{Logger: talks(logger.Config{LogLevel: logger.Info}), Context: ctx})
	_ = loud.Create(&Patient{Name: storage.Seal(printed), MRN: storage.Seal(printed)}).Error
	_ = loud.Create(&Patient{MRN: storage.Seal(printed)}).Error // a duplicate: fails
	_ = loud.Where("name = ? OR mrn = ?", storage.Seal(printed), []storage.Sealed[string]{storage.Seal(printed)}).Find(&[]Patient{}).Error
	_ = loud.Exec("SELECT ? FROM nowhere", storage.Seal(printed)).Error
	_ = loud.Where(&Patient{Name: storage.Seal(printed)}).Find(&[]Patient{}).Error
	_ = loud.Model(&Patient{}).Where("active = ?", true).Updates(map[string]any{"name": printed}).Error
	if !strings.Contains(out.String(), "INSERT INTO") {
		t.Error("the loud logger was silent")
	}
	sql := db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.WithContext(ctx).Create(&Patient{Name: storage.Seal(printed)}) })
	if out.Len() == 0 {
		t.Error("the logger was silent: nothing was tested")
	}
	if leaksIn(out.String()) || leaksIn(sql) {
		t.Errorf("the log holds plaintext")
	}
}

// What reaches a driver by a way that storage does not handle fails: GORM makes
// IS NULL of an error beside a nil value.
func TestAValueThatIsNotSealedFailsClosed(t *testing.T) {
	t.Parallel()
	v, err := storage.Seal(printed).Value()
	if !errors.Is(err, storage.ErrRefused) || v == nil || leaksIn(fmt.Sprint(v, err)) {
		t.Errorf("Value of a value that is not sealed = %v, %v", v, err)
	}
	if v, err := (storage.Sealed[string]{}).Value(); v != nil || err != nil {
		t.Errorf("Value of NULL = %v, %v", v, err)
	}
	plain := plainDB(t) // without the plugin
	if err := plain.AutoMigrate(&valueName{}); err != nil {
		t.Fatal(err)
	}
	x := valueName{V: storage.Seal(printed)}
	x.ID = "x"
	if err := plain.Create(&x).Error; err == nil {
		t.Error("a database without the plugin takes a value that is not sealed")
	}
	for _, cond := range []any{&valueName{V: storage.Seal(printed)}, map[string]any{"v": storage.Seal(printed)}} {
		sql := plain.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Where(cond).Find(&[]valueName{}) })
		if strings.Contains(sql, "IS NULL") || leaksIn(sql) {
			t.Errorf("a condition becomes %s", sql)
		}
		if err := plain.Where(cond).Find(&[]valueName{}).Error; err == nil {
			t.Error("a condition with a value that is not sealed runs")
		}
	}
}
