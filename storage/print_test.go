// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
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
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"text/tabwriter"
	texttemplate "text/template"

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

func printedForms() []string {
	raw := []byte(printed)
	return []string{
		printed, "Zebediah", "Quux-Waldo", strings.ToLower(printed), strings.ToUpper(printed),
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), strings.Trim(fmt.Sprintf("% x", raw), " "),
		strings.Trim(fmt.Sprint(raw), "[]"), base64.StdEncoding.EncodeToString(raw)[:20],
		strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", raw), "[]byte{"), "}"),
		strings.Trim(fmt.Sprintf("%U", []rune(printed)[:4]), "[]"), strings.Trim(fmt.Sprintf("%o", raw[:6]), "[]"), strings.Trim(fmt.Sprintf("%b", raw[:6]), "[]"),
		"WmViZWRpYWg", // base64 of its beginning, without padding
	}
}

func leaksIn(out string) bool {
	for _, f := range printedForms() {
		if strings.Contains(out, f) {
			return true
		}
	}
	return false
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
			l.Info("m", zap.Any("x", w.x), zap.Reflect("y", w.x))
			visit("zap "+name+" of "+w.name, b.String())
			b.Reset()
			s := l.Sugar()
			s.Infow("m", "x", w.x)
			s.Infof("%v %+v %s", w.x, w.x, w.x)
			s.Info(w.x)
			s.With("k", w.x).Infoln(w.x)
			visit("zap Sugar "+name+" of "+w.name, b.String())
		}
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
	case reflect.Pointer, reflect.Interface:
		if v.Type().String() == "*storage.model" || v.Type().String() == "*storage.field" {
			return ""
		}
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
		}
	}
	for what, x := range map[string]Thing{"not sealed yet": fresh, "created": row, "sealed": sealed, "revealed": revealed} {
		printPaths(x.Text, check(what+" string"))
		printPaths(x.Bytes, check(what+" bytes"))
		printPaths(x.Map, check(what+" map"))
		printPaths(x, check(what+" model"))
	}
	masked := maskedTo(t)
	printPaths(masked, check("masked"))
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
	for _, way := range []string{"fmt", "reflection"} {
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
	for _, way := range []string{"fmt", "Sprint", "Errorf", "panic", "json", "xml", "gob", "text/template", "html/template", "log", "slog", "zap", "expvar", "tabwriter", "reflection", "GORM's"} {
		if !all[way] {
			t.Errorf("the matrix does not see a bare string by %s", way)
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
