// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"math/big"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "add golden values that are missing; those that are there are never written again")

// The types of the golden values.
type (
	mrn    string
	photo  []byte
	ward   uint16
	weight float32
	vitals struct {
		Pulse int      `json:"pulse"`
		Notes []string `json:"notes"`
		At    *Date    `json:"at,omitempty"`
	}
	gender int // renders itself
)

func (g gender) MarshalText() ([]byte, error) { return []byte([]string{"other", "female"}[g]), nil }
func (g *gender) UnmarshalText(b []byte) error {
	*g = 0
	if string(b) == "female" {
		*g = 1
	}
	return nil
}

// A codec is encode and decode of one type, and one value of it.
type codec struct {
	name   string
	plain  func() ([]byte, error)
	decode func(*testing.T, []byte) // fails the test where what it reads is not the value
}

func of[T any](name string, v T) codec {
	return codec{name, func() ([]byte, error) { return encode(v) }, func(t *testing.T, b []byte) {
		t.Helper()
		got, err := decode[T](b)
		if err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%s: decode = %#v, %v, want %#v", name, got, err, v)
		}
		again, err := encode(got)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: encoded again = %q, %v, want %q", name, again, err, b)
		}
	}}
}

func codecs() []codec {
	date := Date{1980, time.March, 4}
	zone := time.FixedZone("", -5*3600-30*60)
	return []codec{
		of("string", "Jane Roe"), of("string empty", ""), of("string not UTF-8", "a\xff\xfe"), of("string of the mark", "\xf8x"), of("string of NUL", "\x00\x80\x00"),
		of("bytes", []byte{0, 1, 0xFF}), of("bytes empty", []byte{}), of("bytes of the mark", []byte{padMark, padEnd, 0}),
		of("named string", mrn("MRN-1")), of("named bytes", photo{0xFF, 0xD8, 0}),
		of("int", -42), of("int8", int8(-128)), of("int64 min", int64(math.MinInt64)), of("uint64 max", uint64(math.MaxUint64)), of("named uint16", ward(7)),
		of("float64", 0.1), of("float64 negative zero", math.Copysign(0, -1)), of("float64 large", 1e300), of("float64 small", 5e-324), of("float32", float32(0.1)), of("named float32", weight(72.5)),
		of("bool true", true), of("bool false", false),
		of("time UTC", time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)), of("time zero", time.Time{}), of("time year 0", time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)), of("time year 9999", time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)),
		of("duration", 90*time.Minute),
		of("date", date), of("date none", Date{}), of("date leap", Date{2024, time.February, 29}),
		of("struct", vitals{72, []string{"<calm> & warm"}, &date}), of("pointer", &vitals{Pulse: 1}), of("pointer nil", (*vitals)(nil)),
		of("slice", []string{"a", "b"}), of("slice nil", []string(nil)), of("slice empty", []string{}), of("array", [2]bool{true, false}),
		of("map", map[string]int{"b": 2, "a": 1}), of("map of numbers", map[int][]string{-1: {"x"}}), of("map nil", map[string]int(nil)),
		of("marshals itself", gender(1)), of("pointer marshals itself", *big.NewInt(1 << 60)), of("address", netip.MustParseAddr("2001:db8::1")), of("raw JSON", json.RawMessage(`{"a":1}`)),
		{"time with an offset", func() ([]byte, error) { return encode(time.Date(2026, 1, 2, 3, 4, 5, 0, zone)) }, func(t *testing.T, b []byte) {
			got, err := decode[time.Time](b)
			if _, offset := got.Zone(); err != nil || offset != -19800 || !got.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, zone)) || got.Location() == time.Local {
				t.Errorf("time with an offset = %v, %v", got, err)
			}
		}},
	}
}

// Every value that a release has written opens in every later one.
func TestGoldenValues(t *testing.T) {
	const file = "testdata/values.json"
	golden := map[string]string{}
	if raw, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(raw, &golden); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range codecs() {
		plain, err := c.plain()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if golden[c.name] == "" && *update {
			golden[c.name] = "x" + hex.EncodeToString(plain)
		}
		if golden[c.name] != "x"+hex.EncodeToString(plain) {
			t.Errorf("%s: encodes as %q (%x), the golden value is %s", c.name, plain, plain, golden[c.name])
		}
		c.decode(t, plain)
	}
	if n := len(codecs()); len(golden) != n {
		t.Errorf("%d golden values, %d codecs", len(golden), n)
	}
	if *update {
		raw, _ := json.MarshalIndent(golden, "", "\t")
		if err := os.WriteFile(file, append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestValuesWithoutAnEncoding(t *testing.T) {
	t.Parallel()
	cycle := map[string]any{}
	cycle["me"] = cycle
	for name, encode := range map[string]func() ([]byte, error){
		"NaN":                  func() ([]byte, error) { return encode(math.NaN()) },
		"infinity":             func() ([]byte, error) { return encode(math.Inf(1)) },
		"NaN in a struct":      func() ([]byte, error) { return encode(struct{ F float64 }{math.NaN()}) },
		"year 10000":           func() ([]byte, error) { return encode(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)) },
		"year -1":              func() ([]byte, error) { return encode(time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)) },
		"30 February":          func() ([]byte, error) { return encode(Date{2026, time.February, 30}) },
		"month 13":             func() ([]byte, error) { return encode(struct{ D Date }{Date{2026, 13, 1}}) },
		"no UTF-8 in a slice":  func() ([]byte, error) { return encode([]string{"Zebediah\xff"}) },
		"no UTF-8 in a key":    func() ([]byte, error) { return encode(map[string]int{"Zebediah\xff": 1}) },
		"no UTF-8 in a struct": func() ([]byte, error) { return encode(struct{ A any }{[]any{"Zebediah\xff"}}) },
		"cycle":                func() ([]byte, error) { return encode(cycle) },
		"JSON that is none":    func() ([]byte, error) { return encode(json.RawMessage("Zebediah")) },
	} {
		if b, err := encode(); err == nil || b != nil || strings.Contains(err.Error(), "Zebediah") || !strings.HasPrefix(err.Error(), "storage: ") {
			t.Errorf("%s = %q, %v", name, b, err)
		}
	}
	if b, err := encode([]string{"�", `\ufffd`}); err != nil { // the character itself is text
		t.Errorf("U+FFFD = %q, %v", b, err)
	}
	// A local mean time has an offset of seconds, which RFC 3339 has not.
	old := time.Date(1880, 3, 4, 12, 0, 0, 0, time.FixedZone("LMT", 53*60+28))
	b, err := encode(old)
	if got, derr := decode[time.Time](b); err != nil || derr != nil || !got.Equal(old) {
		t.Errorf("a local mean time = %v, %v, %v; want %v", got, err, derr, old)
	}
	now := time.Now() // with a monotonic clock
	b, err = encode(now)
	if got, derr := decode[time.Time](b); err != nil || derr != nil || !got.Equal(now) || strings.Contains(got.String(), "m=") {
		t.Errorf("now = %v, %v, %v; want %v", got, err, derr, now)
	}
	if b, err := encode([]byte(nil)); err != nil || b == nil || len(b) != 0 {
		t.Errorf("nil bytes = %v, %v", b, err)
	}
}

func TestDecodersRefuse(t *testing.T) {
	t.Parallel()
	refuses := map[string]error{}
	try := func(name string, err error) { refuses[name] = err }
	_, err := decode[int]([]byte("null"))
	try("null as a number", err)
	_, err = decode[bool]([]byte("null"))
	try("null as a bool", err)
	_, err = decode[int8]([]byte("128"))
	try("a number that does not fit", err)
	_, err = decode[int]([]byte("1 2"))
	try("two numbers", err)
	_, err = decode[int]([]byte{})
	try("nothing as a number", err)
	_, err = decode[time.Time]([]byte("null"))
	try("null as a time", err)
	_, err = decode[time.Time]([]byte(`"Zebediah"`))
	try("text as a time", err)
	_, err = decode[Date]([]byte("1980-02-30"))
	try("30 February", err)
	_, err = decode[Date]([]byte("0000-01-01"))
	try("year 0", err)
	_, err = decode[Date]([]byte("1980-3-4"))
	try("short date", err)
	_, err = decode[vitals]([]byte(`{"pulse":"Zebediah"}`))
	try("text as a number", err)
	for name, err := range refuses {
		if err == nil || strings.Contains(err.Error(), "Zebediah") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFrame(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte{'x'}, 200)
	for _, c := range []struct {
		plain []byte
		size  int
		want  int
	}{
		{nil, 0, 0}, {[]byte("a"), 0, 1}, {[]byte{padMark}, 0, 4}, {[]byte{padMark, padEnd}, 0, 4},
		{nil, 16, 16}, {long[:14], 16, 16}, {long[:15], 16, 32}, {long[:62], 64, 64}, {long[:63], 64, 128}, {long, 64, 256},
		{[]byte{0}, 16, 16}, {[]byte{padEnd, 0, 0}, 16, 16}, {[]byte{padMark, padEnd}, 16, 16}, {long[:50], 40, 80},
	} {
		got := frame(c.plain, c.size)
		if len(got) != c.want {
			t.Errorf("frame of %d bytes to %d has %d, want %d", len(c.plain), c.size, len(got), c.want)
		}
		if back, err := unframe(got); err != nil || !bytes.Equal(back, c.plain) {
			t.Errorf("unframe of %x = %x, %v, want %x", got, back, err, c.plain)
		}
	}
	for _, broken := range [][]byte{{padMark}, {padMark, 0}, {padMark, 'a'}, {padMark, 'a', 0, 0}} {
		if b, err := unframe(broken); err == nil {
			t.Errorf("unframe of %x = %x", broken, b)
		}
	}
}

// No bytes make a decoder panic, and what decodes is what encodes to it again,
// or to its canonical form.
func FuzzDecode(f *testing.F) {
	for _, c := range codecs() {
		plain, err := c.plain()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
		f.Add(frame(plain, 64))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := unframe(b); err == nil {
			if back, err := unframe(frame(plain, 0)); err != nil || !bytes.Equal(back, plain) {
				t.Errorf("frame of %x came back as %x, %v", plain, back, err)
			}
			b = plain
		}
		canonical[string](t, b)
		canonical[[]byte](t, b)
		canonical[mrn](t, b)
		canonical[int64](t, b)
		canonical[ward](t, b)
		canonical[float64](t, b)
		canonical[bool](t, b)
		canonical[time.Time](t, b)
		canonical[Date](t, b)
		canonical[vitals](t, b)
		canonical[*vitals](t, b)
		canonical[[]string](t, b)
		canonical[map[string]int](t, b)
		canonical[gender](t, b)
	})
}

func canonical[T any](t *testing.T, b []byte) {
	v, err := decode[T](b)
	if err != nil {
		return
	}
	_ = text(v)
	plain, err := encode(v)
	if err != nil {
		t.Fatalf("%T: decodes from %q and does not encode: %v", v, b, err)
	}
	again, err := decode[T](plain)
	if err != nil {
		t.Fatalf("%T: %q does not decode: %v", v, plain, err)
	}
	twice, err := encode(again)
	if err != nil || !bytes.Equal(plain, twice) {
		t.Fatalf("%T: %q encodes again as %q, %v", v, plain, twice, err)
	}
}

type sneaky struct{ _ string }

type oneWay struct{ A int }

func (oneWay) MarshalJSON() ([]byte, error) { return []byte("1"), nil }

func TestTypesThatCannotBeSealed(t *testing.T) {
	t.Parallel()
	type tree struct {
		Name string
		Kids []*tree
	}
	for _, ok := range []reflect.Type{
		reflect.TypeFor[string](), reflect.TypeFor[[]byte](), reflect.TypeFor[time.Time](), reflect.TypeFor[Date](), reflect.TypeFor[vitals](), reflect.TypeFor[*vitals](),
		reflect.TypeFor[tree](), reflect.TypeFor[map[Date]int](), reflect.TypeFor[map[string]any](), reflect.TypeFor[[]any](), reflect.TypeFor[gender](), reflect.TypeFor[big.Int](),
		reflect.TypeFor[struct {
			A int
			f func() `json:"-"`
		}](), reflect.TypeFor[struct {
			A int
			F func() `json:"-"`
		}](),
	} {
		if why := cannotSeal(ok); why != "" {
			t.Errorf("%s: %s", ok, why)
		}
	}
	for bad, mend := range map[reflect.Type]string{
		reflect.TypeFor[any]():                        "interface",
		reflect.TypeFor[error]():                      "interface",
		reflect.TypeFor[[]error]():                    "interface",
		reflect.TypeFor[func()]():                     "no JSON",
		reflect.TypeFor[map[string]chan int]():        "no JSON",
		reflect.TypeFor[complex128]():                 "no JSON",
		reflect.TypeFor[map[bool]int]():               "key",
		reflect.TypeFor[map[[2]int]int]():             "key",
		reflect.TypeFor[sneaky]():                     "no exported field",
		reflect.TypeFor[[]sneaky]():                   "no exported field",
		reflect.TypeFor[oneWay]():                     "neither UnmarshalJSON",
		reflect.TypeFor[map[string]big.Int]():         "use pointers",
		reflect.TypeFor[struct{ V Sealed[string] }](): "holds a Sealed",
		reflect.TypeFor[Sealed[string]]():             "holds a Sealed",
		reflect.TypeFor[struct{ *sneaky }]():          "embeds",
	} {
		if why := cannotSeal(bad); !strings.Contains(why, mend) {
			t.Errorf("%s: %q, want it to say %q", bad, why, mend)
		}
	}
}

func TestDate(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "0001-01-01", "1980-03-04", "2024-02-29", "9999-12-31"} {
		var d, scanned Date
		if err := d.UnmarshalText([]byte(s)); err != nil || d.String() != s || d.IsZero() != (s == "") || d.Valid() != (s != "") {
			t.Errorf("%q = %+v, %v", s, d, err)
		}
		j, err := json.Marshal(d)
		if err != nil || string(j) != `"`+s+`"` {
			t.Errorf("JSON of %q = %s, %v", s, j, err)
		}
		v, err := d.Value()
		if err != nil || scanned.Scan(v) != nil || scanned != d {
			t.Errorf("Value of %q = %v, %v; scanned %v", s, v, err, scanned)
		}
		if s != "" && (scanned.Scan(d.In(time.Local)) != nil || scanned != d || scanned.Scan([]byte(s+" 00:00:00")) != nil || scanned != d) {
			t.Errorf("%q scanned as a time = %v", s, scanned)
		}
	}
	for _, s := range []string{"1980", "1980-13-01", "2026-02-29", "1980-3-4", "04/03/1980", "0000-01-01", "10000-01-01", " 1980-03-04", "1980-03-04T00:00:00Z", "-001-01-01"} {
		d := Date{1, 1, 1}
		if err := d.UnmarshalText([]byte(s)); !errors.Is(err, errDate) || d != (Date{1, 1, 1}) || strings.Contains(err.Error(), s) {
			t.Errorf("%q = %+v, %v", s, d, err)
		}
	}
	for _, bad := range []Date{{Year: 2026}, {2026, 2, 29}, {2026, 13, 1}, {10000, 1, 1}, {0, 1, 1}, {2026, 1, 0}} {
		if _, err := bad.MarshalText(); err == nil || bad.Valid() {
			t.Errorf("%+v is taken", bad)
		}
		if _, err := bad.Value(); err == nil {
			t.Errorf("%+v is stored", bad)
		}
	}
	if (Date{1980, 3, 4}).Compare(Date{1980, 3, 5}) != -1 || (Date{1980, 3, 4}).Compare(Date{1979, 12, 31}) != 1 || (Date{1980, 3, 4}).Compare(Date{1980, 3, 4}) != 0 {
		t.Error("Compare is wrong")
	}
}
