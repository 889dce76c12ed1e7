// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// A plan is what JSON does with one type. It knows no views, only classes:
// whose they are is the encoder's.
type plan struct {
	encode encodeFunc
}

// An encodeFunc appends the JSON of v to b.
type encodeFunc func(e *encoder, b []byte, v reflect.Value) ([]byte, outcome)

// plan returns the plan of a type, made once for each policy. A type that
// cannot be rendered has a plan that fails.
func (p *Policy) plan(t reflect.Type) *plan {
	if known, ok := p.plans.Load(t); ok {
		return known.(*plan)
	}
	b := builder{plans: make(map[reflect.Type]*plan)}
	made := b.plan(t)
	if b.err != nil {
		made = &plan{encode: func(e *encoder, _ []byte, _ reflect.Value) ([]byte, outcome) { return e.fail(b.err) }}
	}
	known, _ := p.plans.LoadOrStore(t, made)
	return known.(*plan)
}

var (
	valueType         = reflect.TypeFor[Value]()
	marshalerType     = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
	zeroerType        = reflect.TypeFor[zeroer]()
	timeType          = reflect.TypeFor[time.Time]()
	numberType        = reflect.TypeFor[json.Number]()
)

type zeroer interface{ IsZero() bool }

// A builder makes the plans of a type and of all that it holds.
type builder struct {
	plans map[reflect.Type]*plan
	err   error // the first reason why the type cannot be rendered
}

func (b *builder) plan(t reflect.Type) *plan {
	if p := b.plans[t]; p != nil {
		return p // perhaps still in the making: of a type that holds itself
	}
	p := new(plan)
	b.plans[t] = p
	p.encode = b.encoder(t, false)
	return p
}

func (b *builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// isValue reports whether t, or a pointer to it, is a [Value].
func isValue(t reflect.Type) bool {
	return t.Kind() != reflect.Pointer && (t.Implements(valueType) || reflect.PointerTo(t).Implements(valueType))
}

// encoder follows the order in which encoding/json looks at a type, with
// Values before all others.
func (b *builder) encoder(t reflect.Type, quoted bool) encodeFunc {
	if t.Kind() == reflect.Interface {
		return encodeInterface
	}
	if isValue(t) {
		byAddress := !t.Implements(valueType)
		return func(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
			x, ok := valueOf(v, byAddress)
			if !ok {
				return b, hidden
			}
			return e.value(b, x)
		}
	}
	if t == timeType {
		return encodeTime
	}
	if t.Kind() == reflect.Pointer && isValue(t.Elem()) {
		return b.kind(t, quoted) // not by the methods of the Value that it leads to
	}
	ptr := t
	if t.Kind() != reflect.Pointer {
		ptr = reflect.PointerTo(t)
	}
	if ptr.Implements(marshalerType) || ptr.Implements(textMarshalerType) {
		if name := clearField(t, nil); name != "" {
			b.fail("type %s renders itself (MarshalJSON or MarshalText) and holds the clear PHI field %s: remove the method, or store the field sealed", t, name)
		}
	}
	var direct, viaAddr encodeFunc
	switch {
	case t.Implements(marshalerType):
		return encodeMarshaler
	case t.Implements(textMarshalerType):
		direct = encodeText
	default:
		direct = b.kind(t, quoted)
	}
	switch {
	case ptr == t:
		return direct
	case ptr.Implements(marshalerType):
		viaAddr = encodeMarshaler
	case ptr.Implements(textMarshalerType):
		viaAddr = encodeText
	default:
		return direct
	}
	return func(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
		if v.CanAddr() {
			return viaAddr(e, b, v.Addr())
		}
		return direct(e, b, v)
	}
}

// clearField returns the path of a field in t that is PHI by its tag and no
// Value; "" where there is none.
func clearField(t reflect.Type, path []reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		if slices.Contains(path, t) {
			return ""
		}
		return clearField(t.Elem(), append(path, t))
	case reflect.Struct:
	default:
		return ""
	}
	if isValue(t) || slices.Contains(path, t) {
		return ""
	}
	path = append(path, t)
	for i := range t.NumField() {
		f := t.Field(i)
		if tag, ok, err := FieldTag(f); ok && (err != nil || tag.Class != "") && !holdsValue(f.Type) {
			return f.Name
		}
		if name := clearField(f.Type, path); name != "" {
			return f.Name + "." + name
		}
	}
	return ""
}

// holdsValue reports whether t is a Value, or pointers to or lists of one.
func holdsValue(t reflect.Type) bool {
	for {
		if isValue(t) {
			return true
		}
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			if t.Name() != "" {
				return false // may hold itself
			}
			t = t.Elem()
		default:
			return false
		}
	}
}

// A structPlan is the plan of a struct type.
type structPlan struct {
	fields   []field
	reserved bool // a field has the name of one of the lists
}

// A field is one key of a JSON object.
type field struct {
	name      string
	key       string // ,"name": in JSON
	index     []int
	plan      *plan
	class     int  // index of the class of clear PHI; -1 for what is not
	mask      mask // of the class
	scalar    bool // its text is that of its kind
	value     bool // a Value or a pointer to one
	omitEmpty bool
	omitZero  func(reflect.Value) bool // nil without omitzero
}

// A candidate is a field that may give a key its value: of several with one
// name the shallowest wins, then the one whose name comes from a tag.
type candidate struct {
	field
	tagged bool
	path   string // such as Patient.Name, for errors
}

func (b *builder) structPlan(t reflect.Type) *structPlan {
	groups := make(map[string][]candidate)
	b.collect(t, nil, nil, groups)
	p := new(structPlan)
	phi := false
	for _, g := range groups {
		slices.SortStableFunc(g, func(x, y candidate) int {
			if n := len(x.index) - len(y.index); n != 0 {
				return n
			}
			if x.tagged != y.tagged {
				if x.tagged {
					return -1
				}
				return 1
			}
			return 0
		})
		if len(g) > 1 && len(g[0].index) == len(g[1].index) && g[0].tagged == g[1].tagged {
			// Two fields of equal right: encoding/json leaves both out.
			for _, c := range g {
				if c.class >= 0 || c.value {
					b.fail("fields %s and %s of %s have one JSON name, so that neither would appear: rename one", g[0].path, g[1].path, t)
				}
			}
			continue
		}
		f := g[0].field
		p.fields = append(p.fields, f)
		phi = phi || f.class >= 0 || f.value
		p.reserved = p.reserved || f.name == withheldList || f.name == unavailableList
	}
	if phi && p.reserved {
		b.fail("type %s has PHI fields and a field with the JSON name %s or %s, which list what is not shown: rename it", t, withheldList, unavailableList)
	}
	slices.SortFunc(p.fields, func(x, y field) int { return slices.Compare(x.index, y.index) })
	return p
}

// The keys that list what an object does not show.
const (
	withheldList    = "_withheld"
	unavailableList = "_unavailable"
)

// collect adds the fields of t, and of the structs embedded in it, by name.
func (b *builder) collect(t reflect.Type, index []int, path []reflect.Type, groups map[string][]candidate) {
	if slices.Contains(path, t) {
		return // embeds itself by pointer: the outer fields win
	}
	path = append(slices.Clip(path), t)
	b.checkTags(t)
	for i := range t.NumField() {
		sf := t.Field(i)
		elem := sf.Type
		if sf.Anonymous && elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		if !sf.IsExported() && (!sf.Anonymous || elem.Kind() != reflect.Struct) {
			continue
		}
		spec := sf.Tag.Get("json")
		if spec == "-" {
			continue
		}
		name, opts, _ := strings.Cut(spec, ",")
		if !validName(name) {
			name = ""
		}
		at := append(slices.Clip(index), i)
		tag, tagged, err := FieldTag(sf)
		if err != nil {
			b.fail("field %s of %s: %w", sf.Name, t, err)
			return
		}
		if sf.Anonymous && name == "" && elem.Kind() == reflect.Struct {
			switch {
			case isValue(elem):
				b.fail("field %s of %s is an embedded PHI value: give it a name", sf.Name, t)
			case tagged && !tag.None:
				b.fail("field %s of %s is an embedded struct with a phi tag: tag its fields", sf.Name, t)
			default:
				b.collect(elem, at, path, groups)
			}
			continue
		}
		if !sf.IsExported() && hasMethods(elem) {
			b.fail("field %s of %s is embedded, unexported and renders itself: export its type", sf.Name, t)
			return
		}
		c := candidate{tagged: name != "", path: t.String() + "." + sf.Name}
		c.name, c.index, c.class = name, at, -1
		if name == "" {
			c.name = sf.Name
		}
		c.key = "," + string(appendString(nil, c.name)) + ":"
		c.value = isValue(sf.Type) || sf.Type.Kind() == reflect.Pointer && isValue(sf.Type.Elem())
		if tag.Class != "" && !holdsValue(sf.Type) {
			c.class, c.mask, c.scalar = tag.Class.index(), maskOf(tag.Class), isScalar(sf.Type)
		}
		quoted := false
		for opt := range strings.SplitSeq(opts, ",") {
			switch opt {
			case "omitempty":
				c.omitEmpty = true
			case "omitzero":
				c.omitZero = isZero(sf.Type)
			case "string":
				quoted = quotable(sf.Type)
			}
		}
		if quoted {
			c.plan = &plan{encode: b.encoder(sf.Type, true)}
		} else {
			c.plan = b.plan(sf.Type)
		}
		groups[c.name] = append(groups[c.name], c)
	}
}

// hasMethods reports whether rendering calls methods of t, which reflection
// cannot do through an unexported field.
func hasMethods(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return isValue(t) || p.Implements(marshalerType) || p.Implements(textMarshalerType) || p.Implements(zeroerType)
}

// checkTags holds that a struct with a phi tag tags every exported field,
// embedded structs aside: what somebody forgot to tag must not be shown.
func (b *builder) checkTags(t reflect.Type) {
	any, missing := false, ""
	for i := range t.NumField() {
		f := t.Field(i)
		elem := f.Type
		if f.Anonymous && elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		_, tagged := f.Tag.Lookup(TagKey)
		any = any || tagged
		if !tagged && f.IsExported() && !(f.Anonymous && elem.Kind() == reflect.Struct) {
			missing = f.Name
		}
	}
	if any && missing != "" {
		b.fail(`type %s: field %s has no phi tag, but others have: add its class, such as phi:"text,clear", or phi:"-" for what is not about a person`, t, missing)
	}
}

// validName reports whether encoding/json takes a name from a tag.
func validName(s string) bool {
	for _, r := range s {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
	}
	return s != ""
}

// quotable reports whether the option string has an effect on t.
func quotable(t reflect.Type) bool {
	if t.Name() == "" && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return true
	}
	return false
}

// isZero returns what the option omitzero asks of a field of type t.
func isZero(t reflect.Type) func(reflect.Value) bool {
	switch {
	case t.Kind() == reflect.Interface && t.Implements(zeroerType):
		return func(v reflect.Value) bool {
			return v.IsNil() || v.Elem().Kind() == reflect.Pointer && v.Elem().IsNil() || v.Interface().(zeroer).IsZero()
		}
	case t.Kind() == reflect.Pointer && t.Implements(zeroerType):
		return func(v reflect.Value) bool { return v.IsNil() || v.Interface().(zeroer).IsZero() }
	case t.Implements(zeroerType):
		return func(v reflect.Value) bool { return v.Interface().(zeroer).IsZero() }
	case reflect.PointerTo(t).Implements(zeroerType):
		return func(v reflect.Value) bool { return address(v).Interface().(zeroer).IsZero() }
	}
	return reflect.Value.IsZero
}

// isEmpty reports what the option omitempty asks.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct, reflect.Func, reflect.Chan, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return false
	}
	return v.IsZero()
}

// address returns the address of v, or of a copy.
func address(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v.Addr()
	}
	c := reflect.New(v.Type())
	c.Elem().Set(v)
	return c
}

// asValue returns the Value that v is, itself or by its address.
func asValue(v reflect.Value) (Value, bool) {
	t := v.Type()
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface:
		return nil, false // the caller goes on to what it points to
	}
	if !isValue(t) {
		return nil, false
	}
	return valueOf(v, !t.Implements(valueType))
}

// valueOf returns the Value that v, of a type that isValue, is. byAddress says
// that only its pointer has the method.
func valueOf(v reflect.Value, byAddress bool) (Value, bool) {
	if byAddress || v.CanAddr() { // a pointer fits an interface without a copy
		v = address(v)
	}
	x, ok := v.Interface().(Value)
	return x, ok
}

// maxDepth is the nesting that encoding/json reads back.
const maxDepth = 10_000

var errDeep = errors.New("nested deeper than 10,000")
