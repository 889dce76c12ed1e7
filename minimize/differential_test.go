// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA5008 malformed tags are held against encoding/json on purpose

package minimize

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
)

// everything is a context in which role all sees everything for treatment.
func everything(ctx context.Context) context.Context {
	p, err := New([]Rule{{Role: "all", Purposes: []access.Purpose{access.Treatment}, Classes: Classes(), View: Reveal}})
	if err != nil {
		panic(err)
	}
	ctx = access.With(ctx, access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"all"}}, access.Treatment)
	s, _ := access.From(ctx)
	Pin(s, p)
	return ctx
}

// sameAsStd holds that JSON gives what encoding/json gives for v.
func sameAsStd(t *testing.T, ctx context.Context, v any) {
	t.Helper()
	want, wantErr := json.Marshal(v)
	got, err := JSON(ctx, v)
	if (err == nil) != (wantErr == nil) {
		t.Errorf("%T: JSON error = %v, encoding/json error = %v", v, err, wantErr)
		return
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%T:\n got %s\nwant %s", v, got, want)
	}
}

// What encoding/json has rules for.
type (
	stringKind string
	intKind    int
	ptrJSON    struct{ A int }
	valJSON    struct{ A int }
	ptrText    struct{ A string }
	valText    struct{ A string }
	textKey    struct{ A, B int }
	both       struct{ A int }
	zeroable   struct{ A int }
	ptrZero    struct{ A int }
	byteKind   byte
	textByte   byte

	inner struct {
		X int
		Y string `json:"y,omitempty"`
	}
	Embedded struct {
		X, Z int
		W    string `json:"w"`
	}
	deeper struct {
		Embedded
		*Other
		V int `json:"v"`
	}
	Other struct {
		Z int
		Q string
	}
	generic[T any] struct {
		Items []T `json:"items"`
		Next  *generic[T]
		Any   any
	}
	withAlias struct {
		Time  time.Time
		PTime *time.Time `json:",omitempty"`
		ZTime time.Time  `json:",omitzero"`
		Dur   time.Duration
	}
	shallow struct {
		Embedded
		X string
		inner
	}
	named struct {
		Embedded `json:"e"`
		inner    `json:"in"`
	}
	odd struct {
		A int    `json:"-"`
		B int    `json:"-,"`
		C int    `json:"a b"`
		D int    `json:"<&>"`
		E int    `json:"naïve"`
		F string `json:"\""`
		G int    `json:",omitempty,string"`
		h int
	}
	quotedAll struct {
		S  string       `json:",string"`
		I  int          `json:",string"`
		P  *int         `json:",string"`
		N  *int         `json:",string"`
		F  float64      `json:",string"`
		B  bool         `json:",string"`
		L  []int        `json:",string"`
		Nu json.Number  `json:",string"`
		K  intKind      `json:",string"`
		T  textByte     `json:",string"`
		PP **int        `json:",string"`
		A  any          `json:",string"`
		M  map[int]bool `json:",string,omitempty"`
	}
	zeros struct {
		A zeroable  `json:",omitzero"`
		B *zeroable `json:",omitzero"`
		C ptrZero   `json:",omitzero"`
		D any       `json:",omitzero"`
		E zeroer    `json:",omitzero"`
		F [2]int    `json:",omitzero"`
		G inner     `json:",omitzero"`
		H [0]int    `json:",omitempty"`
		I []int     `json:",omitzero"`
	}
)

func (p *ptrJSON) MarshalJSON() ([]byte, error) {
	return []byte(`{ "ptr" : "<` + strconv.Itoa(p.A) + `>" }`), nil
}
func (v valJSON) MarshalJSON() ([]byte, error)  { return []byte("\n[ 1,  \"\u2028\" ]"), nil }
func (p *ptrText) MarshalText() ([]byte, error) { return []byte("p<" + p.A), nil }
func (v valText) MarshalText() ([]byte, error)  { return []byte("v&" + v.A), nil }
func (k textKey) MarshalText() ([]byte, error) {
	return []byte(strconv.Itoa(k.A) + "/" + strconv.Itoa(k.B)), nil
}
func (b *both) MarshalJSON() ([]byte, error)     { return []byte(`"json"`), nil }
func (b both) MarshalText() ([]byte, error)      { return []byte("text"), nil }
func (z zeroable) IsZero() bool                  { return z.A == 7 }
func (z *ptrZero) IsZero() bool                  { return z.A == 8 }
func (b *textByte) MarshalText() ([]byte, error) { return []byte("t"), nil }

func TestSameAsEncodingJSON(t *testing.T) {
	t.Parallel()
	ctx := everything(t.Context())
	one, s := 1, "s"
	pone := &one
	now := time.Date(2026, 11, 22, 5, 40, 0, 123456789, time.FixedZone("x", -3*3600-1800))
	ring := map[string]any{}
	values := []any{
		nil, true, false, 0, -1, uint8(255), uintptr(9), int64(math.MinInt64), uint64(math.MaxUint64),
		"", "plain", "<script>&\u2028\u2029\"\\\b\f\n\r\t\x00\x1f\x7f\xff\xc0\xed\xa0\x80é\U0001F600\xf0\x9f",
		0.0, math.Copysign(0, -1), 1.5, 1e20, 1e21, 1e-6, 1e-7, 123456789.125, math.MaxFloat64, math.SmallestNonzeroFloat64,
		float32(0.1), float32(1e21), float32(3e-7), float32(math.MaxFloat32), math.NaN(), math.Inf(1), float32(math.Inf(-1)),
		json.Number("12.50"), json.Number(""), json.Number("x"), json.RawMessage(`{ "a" : "<" }`), json.RawMessage(nil), json.RawMessage("{"),
		[]byte("bytes"), []byte(nil), []byte{}, []byteKind{1, 2}, []textByte{1}, [3]byte{1, 2, 3},
		[]int(nil), []int{}, []int{1, 2}, [0]int{}, [2]string{"a", "b"}, [][]string{{"a"}, nil},
		map[string]int(nil), map[string]int{}, map[string]int{"b": 1, "a<": 2}, map[int]string{10: "a", 9: "b"}, map[uint8]bool{3: true},
		map[textKey]int{{1, 2}: 3, {0, 1}: 4}, map[stringKind]any{"k": nil}, map[float64]int{1: 2}, map[bool]int(nil), map[*textKey]int{nil: 1},
		stringKind("x"), intKind(3), pone, &pone, (*int)(nil), &s,
		ptrJSON{1}, &ptrJSON{2}, (*ptrJSON)(nil), []ptrJSON{{3}}, [1]ptrJSON{{4}}, &[1]ptrJSON{{5}}, map[string]ptrJSON{"a": {6}}, map[string]*ptrJSON{"a": {7}},
		valJSON{}, &valJSON{}, (*valJSON)(nil), []valJSON{{}}, struct{ A, B any }{valJSON{}, &ptrJSON{8}},
		ptrText{"a"}, &ptrText{"b"}, []ptrText{{"c"}}, valText{"d"}, &valText{"e"}, []*valText{nil, {"f"}}, both{}, &both{}, []both{{}},
		inner{}, inner{1, "y"}, deeper{}, deeper{Other: &Other{1, "q"}, V: 2}, &deeper{Embedded: Embedded{1, 2, "w"}},
		shallow{X: "s", Embedded: Embedded{X: 1}}, named{}, odd{A: 1, B: 2, C: 3, D: 4, E: 5, F: "6", h: 7}, odd{G: 8},
		quotedAll{}, quotedAll{S: `q"<`, I: 1, P: &one, F: 1e21, B: true, L: []int{1}, Nu: "3", K: 4, T: 5, PP: &pone, A: 6, M: map[int]bool{1: true}}, &quotedAll{T: 1},
		zeros{}, zeros{A: zeroable{7}, B: &zeroable{7}, C: ptrZero{8}, D: 0, E: zeroable{7}, F: [2]int{1, 0}, G: inner{X: 1}, I: []int{}}, &zeros{C: ptrZero{8}, E: (*zeroable)(nil)},
		withAlias{}, withAlias{Time: now, PTime: &now, ZTime: now.UTC(), Dur: time.Second},
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), now.In(time.FixedZone("", 24*3600)), now.In(time.FixedZone("", -86399)), now.Truncate(time.Second),
		generic[inner]{Items: []inner{{1, "a"}}, Next: &generic[inner]{}, Any: map[string]any{"x": []any{1, "<", nil, true, 1.5}}},
		big.NewInt(12345678901234567), netip.MustParseAddr("10.0.0.1"), errors.New("x"),
		make(chan int), func() {}, complex(1, 2), struct{ F func() }{}, struct {
			F func() `json:",omitempty"`
		}{}, struct {
			F chan int `json:"-"`
		}{}, []any{make(chan int)}, map[string]any{"f": func() {}},
		struct{ any }{1}, struct{ *inner }{nil}, struct{ *Embedded }{&Embedded{X: 1}}, struct{ stringKind }{"unexported"}, ring,
	}
	for _, v := range values {
		sameAsStd(t, ctx, v)
		if v != nil {
			p := reflect.New(reflect.TypeOf(v))
			p.Elem().Set(reflect.ValueOf(v))
			sameAsStd(t, ctx, p.Interface())
			sameAsStd(t, ctx, []any{v, p.Interface()})
		}
	}
	for _, v := range values {
		sameAsStd(t, t.Context(), v) // nobody signed in: nothing here is PHI
	}
}

func TestCyclesEndAsInEncodingJSON(t *testing.T) {
	t.Parallel()
	type node struct{ Next *node }
	ptr := &node{}
	ptr.Next = ptr
	m := map[string]any{}
	m["m"] = m
	l := []any{nil}
	l[0] = l
	var i any
	i = &i
	type ref *ref
	var r ref
	r = &r
	for _, v := range []any{ptr, m, l, i, r} {
		_, want := json.Marshal(v)
		_, err := JSON(everything(t.Context()), v)
		var got, std *json.UnsupportedValueError
		if !errors.As(err, &got) || !errors.As(want, &std) || got.Str != std.Str {
			t.Errorf("%T: error %v, want %v", v, err, want)
		}
	}
	deep := &node{}
	for range 5000 {
		deep = &node{deep}
	}
	sameAsStd(t, t.Context(), deep)
	for range 5000 {
		deep = &node{deep}
	}
	if _, err := JSON(t.Context(), deep); !errors.Is(err, errDeep) {
		t.Errorf("nested over 10,000 deep: %v", err)
	}
}

// TestSameAsEncodingJSONRandom renders random values of random types, their
// strings tagged as clear PHI that the caller sees.
func TestSameAsEncodingJSONRandom(t *testing.T) {
	t.Parallel()
	n := 1000
	if os.Getenv("PART164_TEST_LONG") != "" {
		n = 50_000
	}
	ctx := everything(t.Context())
	for seed := range n {
		randomSameAsStd(t, ctx, uint64(seed))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzSameAsEncodingJSON(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, "text <&>", 1.5)
	}
	f.Fuzz(func(t *testing.T, seed uint64, s string, x float64) {
		ctx := everything(t.Context())
		randomSameAsStd(t, ctx, seed)
		sameAsStd(t, ctx, []any{s, []byte(s), x, float32(x), map[string]any{s: s}, json.RawMessage(s), json.Number(s)})
	})
}

func randomSameAsStd(t *testing.T, ctx context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 164))
	typ := randomType(r, 4)
	v := reflect.New(typ).Elem()
	randomFill(r, v, 6)
	sameAsStd(t, ctx, v.Interface())
	sameAsStd(t, ctx, v.Addr().Interface())
}

var leaves = []reflect.Type{
	reflect.TypeFor[string](), reflect.TypeFor[int](), reflect.TypeFor[uint16](), reflect.TypeFor[bool](), reflect.TypeFor[float64](),
	reflect.TypeFor[float32](), reflect.TypeFor[time.Time](), reflect.TypeFor[[]byte](), reflect.TypeFor[any](), reflect.TypeFor[stringKind](),
	reflect.TypeFor[ptrJSON](), reflect.TypeFor[valJSON](), reflect.TypeFor[ptrText](), reflect.TypeFor[valText](), reflect.TypeFor[both](),
	reflect.TypeFor[deeper](), reflect.TypeFor[shallow](), reflect.TypeFor[quotedAll](), reflect.TypeFor[zeros](), reflect.TypeFor[generic[intKind]](),
	reflect.TypeFor[zeroable](), reflect.TypeFor[ptrZero](), reflect.TypeFor[textByte](), reflect.TypeFor[json.Number](),
}

func randomType(r *rand.Rand, depth int) reflect.Type {
	if depth == 0 {
		return leaves[r.IntN(len(leaves))]
	}
	switch r.IntN(9) {
	case 0:
		return reflect.PointerTo(randomType(r, depth-1))
	case 1:
		return reflect.SliceOf(randomType(r, depth-1))
	case 2:
		return reflect.ArrayOf(r.IntN(3), randomType(r, depth-1))
	case 3:
		keys := []reflect.Type{reflect.TypeFor[string](), reflect.TypeFor[int8](), reflect.TypeFor[textKey](), reflect.TypeFor[stringKind]()}
		return reflect.MapOf(keys[r.IntN(len(keys))], randomType(r, depth-1))
	case 4, 5, 6, 7:
		fields := make([]reflect.StructField, r.IntN(6))
		names := []string{"", "a", "b", "F1", "F2", "-", "a<b", "é", `x\"y`, "_id"}
		opts := []string{"", ",omitempty", ",omitzero", ",string", ",omitempty,string", ",omitzero,omitempty"}
		phi := r.IntN(2) == 0
		for i := range fields {
			tag := `json:"` + names[r.IntN(len(names))] + opts[r.IntN(len(opts))] + `"`
			if phi {
				tag += ` phi:"text,clear"`
			}
			fields[i] = reflect.StructField{Name: "F" + strconv.Itoa(i), Type: randomType(r, depth-1), Tag: reflect.StructTag(tag)}
		}
		if hasClash(fields) {
			for i := range fields { // two clear PHI fields of one JSON name are refused: see TestRefusedTypes
				fields[i].Tag = reflect.StructTag(strings.TrimSuffix(string(fields[i].Tag), ` phi:"text,clear"`))
			}
		}
		return reflect.StructOf(fields)
	}
	return leaves[r.IntN(len(leaves))]
}

func hasClash(fields []reflect.StructField) bool {
	seen := map[string]bool{}
	for _, f := range fields {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == `x"y` {
			name = f.Name
		}
		if seen[name] {
			return true
		}
		seen[name] = true
	}
	return false
}

func randomFill(r *rand.Rand, v reflect.Value, depth int) {
	if r.IntN(5) == 0 || depth == 0 || !v.CanSet() {
		return // zero
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.IntN(40)) - 20)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(uint64(r.IntN(40)))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(math.Ldexp(r.Float64()-.5, r.IntN(180)-90))
	case reflect.String:
		if v.Type() == numberType {
			v.SetString(strconv.Itoa(r.IntN(99)))
			return
		}
		b := make([]byte, r.IntN(8))
		for i := range b {
			b[i] = "az<>&\"\\\x00\n\xff\xe2\x80\xa8 é"[r.IntN(16)]
		}
		v.SetString(string(b))
	case reflect.Interface:
		if v.NumMethod() == 0 {
			x := reflect.New(randomType(r, 1)).Elem()
			randomFill(r, x, depth-1)
			v.Set(x)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		randomFill(r, v.Elem(), depth-1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 3))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			randomFill(r, v.Index(i), depth-1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			k, x := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			randomFill(r, k, depth-1)
			randomFill(r, x, depth-1)
			v.SetMapIndex(k, x)
		}
	case reflect.Struct:
		if v.Type() == timeType {
			v.Set(reflect.ValueOf(time.Unix(r.Int64N(4e9), r.Int64N(1e9)).In(time.FixedZone("", r.IntN(80000)-40000))))
			return
		}
		for i := range v.NumField() {
			randomFill(r, v.Field(i), depth-1)
		}
	}
}
