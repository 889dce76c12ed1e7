// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/part164/part164/minimize"
)

// A filler makes values that are told from all others wherever they turn up.
// Each call makes new ones.
type filler struct {
	n      int
	hidden []string // what must not turn up: from sealed fields
	clear  []string // from PHI in clear: may be stored and printed, but not logged
}

// text is a value of a class, as such a value looks.
func (f *filler) text(c minimize.Class, sealed bool) string {
	f.n++
	n := f.n
	word := "Qxveiled"
	if !sealed {
		word = "Zqclear"
	}
	name := "" // of letters, as names are
	for i := n; i > 0; i /= 26 {
		name += string(rune('a' + i%26))
	}
	date := time.Date(1931, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n).Format(time.DateOnly)
	if !sealed {
		date = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n).Format(time.DateOnly)
	}
	switch c {
	case minimize.SSN: // 9xx is no area number of the Social Security Administration
		return fmt.Sprintf("9%02d-%02d-%04d", n/9000%100, 1+n/90%99, 1000+n)
	case minimize.Phone, minimize.Fax: // 555-0100 to 0199 are for fiction
		return fmt.Sprintf("%d-555-01%02d", 212+n/100*100, n%100)
	case minimize.Email:
		return fmt.Sprintf("%s%s@mail.example", strings.ToLower(word), name)
	case minimize.URL:
		return fmt.Sprintf("https://%s.example/%s", strings.ToLower(word), name)
	case minimize.IP: // RFC 3849
		return fmt.Sprintf("2001:db8::%x:%x", 0x1000+n, 0x1000+len(word))
	case minimize.DOB, minimize.Date:
		return date
	case minimize.Age:
		return fmt.Sprint(20 + n%60)
	case minimize.ZIP:
		return fmt.Sprintf("%05d-%04d", 10000+n, 1000+n)
	case minimize.MRN, minimize.Plan, minimize.Account, minimize.License, minimize.Vehicle, minimize.Device, minimize.UID:
		return fmt.Sprintf("%s-%d", strings.ToUpper(word), 164000000000+n)
	}
	return word + " " + strings.ToUpper(name[:1]) + name[1:] + "berg"
}

// mark notes a text, and the number in it, as told from all others. Short ones
// would be found by chance.
func (f *filler) mark(s string, sealed bool) {
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
	for _, s := range []string{s, digits} {
		switch {
		case len(s) < 7:
		case sealed:
			f.hidden = append(f.hidden, s)
		default:
			f.clear = append(f.clear, s)
		}
	}
}

// fill sets v to a value of its type.
func (f *filler) fill(v reflect.Value, c minimize.Class, sealed bool) bool {
	return f.deep(v, c, sealed, 0)
}

func (f *filler) deep(v reflect.Value, c minimize.Class, sealed bool, depth int) bool {
	if depth > 4 {
		return true // a list within itself: empty
	}
	text := func(s string) string { f.mark(s, sealed); return s }
	if v.Type() == reflect.TypeFor[time.Time]() {
		at, err := time.Parse(time.DateOnly, text(f.text(minimize.Date, sealed)))
		v.Set(reflect.ValueOf(at.Add(7*time.Hour + 8*time.Minute)))
		return err == nil
	}
	if p := v.Addr().Interface(); opaque(p) {
		candidates := []string{f.text(minimize.Date, sealed), f.text(c, sealed), f.text(minimize.Text, sealed), fmt.Sprintf("00000164-0000-4000-8000-%012x", f.n), f.text(minimize.IP, sealed), "12"}
		for _, s := range candidates {
			if u, ok := p.(encoding.TextUnmarshaler); ok && u.UnmarshalText([]byte(s)) == nil {
				text(s)
				return true
			}
			for _, raw := range []string{`"` + s + `"`, s, "{}", "[]"} {
				if u, ok := p.(json.Unmarshaler); ok && u.UnmarshalJSON([]byte(raw)) == nil {
					text(s)
					return true
				}
			}
		}
		return false
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text(f.text(c, sealed)))
	case reflect.Bool:
		f.n++
		v.SetBool(f.n%2 == 0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		f.n++
		n := int64(71640000 + f.n)
		if !sealed {
			n = int64(31640000 + f.n)
		}
		v.SetInt(n)
		text(fmt.Sprint(n))
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		f.n++
		n := uint64(81640000 + f.n)
		if !sealed {
			n = uint64(41640000 + f.n)
		}
		v.SetUint(n)
		text(fmt.Sprint(n))
	case reflect.Int8, reflect.Int16:
		f.n++
		v.SetInt(int64(1 + f.n%100))
	case reflect.Uint8, reflect.Uint16:
		f.n++
		v.SetUint(uint64(1 + f.n%100))
	case reflect.Float32, reflect.Float64:
		f.n++
		v.SetFloat(float64(1000+f.n) + 0.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return f.deep(v.Elem(), c, sealed, depth+1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(text(f.text(c, sealed))))
			return true
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		return f.deep(v.Index(0), c, sealed, depth+1) && f.deep(v.Index(1), c, sealed, depth+1)
	case reflect.Array:
		for i := range v.Len() {
			if !f.deep(v.Index(i), c, sealed, depth+1) {
				return false
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if !f.deep(key, c, sealed, depth+1) || !f.deep(elem, c, sealed, depth+1) {
			return false
		}
		v.SetMapIndex(key, elem)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && !f.deep(v.Field(i), c, sealed, depth+1) {
				return false
			}
		}
	case reflect.Interface:
		if v.NumMethod() > 0 {
			return false
		}
		v.Set(reflect.ValueOf(text(f.text(c, sealed))))
	default:
		return false
	}
	return true
}

// opaque reports whether a type says itself how it is read.
func opaque(p any) bool {
	switch p.(type) {
	case encoding.TextUnmarshaler, json.Unmarshaler:
		return true
	}
	return false
}

// seal puts a new value into a Sealed of any type and returns the value, nil
// where no value of the type could be made. Its UnmarshalJSON is the way in
// that needs no type parameter.
func (f *filler) seal(sealed reflect.Value, c minimize.Class) (value any, err error) {
	v := reflect.New(sealed.Addr().MethodByName("Get").Type().Out(0)).Elem()
	if !f.fill(v, c, true) {
		return nil, fmt.Errorf("no value of type %s could be made", v.Type())
	}
	b, err := json.Marshal(v.Interface())
	if err != nil {
		return nil, fmt.Errorf("a %s does not marshal to JSON", v.Type())
	}
	return v.Interface(), sealed.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(b)
}

// get is the Get of a Sealed of any type.
func get(ctx context.Context, sealed reflect.Value) (any, error) {
	out := sealed.Addr().MethodByName("Get").Call([]reflect.Value{reflect.ValueOf(ctx)})
	err, _ := out[1].Interface().(error)
	return out[0].Interface(), err
}

// same reports whether what was revealed is what was sealed.
func same(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y) && holdsTime(reflect.TypeOf(a), 0)
}

// holdsTime reports whether a time is in a type: two of the same instant may
// differ in what they point to.
func holdsTime(t reflect.Type, depth int) bool {
	if t == reflect.TypeFor[time.Time]() {
		return true
	}
	if depth > 4 {
		return false
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return holdsTime(t.Elem(), depth+1)
	case reflect.Struct:
		for i := range t.NumField() {
			if holdsTime(t.Field(i).Type, depth+1) {
				return true
			}
		}
	}
	return false
}
