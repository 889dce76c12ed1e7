// SPDX-License-Identifier: Apache-2.0

package format

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/part164/part164/audit"
)

// The keys are those of CEF's extension dictionary (ArcSight Common Event Format,
// Implementation Standard), with its lengths: a receiver cuts what is longer. An
// event's ID is deviceExternalId, a full stop and externalId.

// cefPatients is how many patients one CEF record names: receivers cut a custom
// string after 4,000 bytes.
const cefPatients = 64

// cef makes one record for every 64 patients of the line.
func (e Encoder) cef(dst []byte, l *audit.Line) ([]byte, error) {
	all := patients(l)
	parts := max(1, (len(all)+cefPatients-1)/cefPatients)
	for part := range parts {
		from := min(part*cefPatients, len(all))
		dst = e.cefRecord(dst, l, all[from:min(from+cefPatients, len(all))], part+1, parts)
	}
	return dst, nil
}

func (e Encoder) cefRecord(dst []byte, l *audit.Line, subjects []string, part, parts int) []byte {
	typ := string(l.Type)
	if typ == "" {
		typ = "unknown"
	}
	dst = append(dst, "CEF:0|part164|part164|1|"...)
	dst = appendHeader(dst, typ)
	dst = append(dst, '|')
	dst = appendHeader(dst, typ+" "+string(l.Outcome))
	dst = append(dst, '|')
	dst = strconv.AppendInt(dst, int64([...]int{2, 4, 6, 8}[severity(l)]), 10) // of 10
	dst = append(dst, '|')

	id := eventID(l)
	first := true
	put := func(key, value string) {
		if value == "" {
			return
		}
		if !first {
			dst = append(dst, ' ')
		}
		first = false
		dst = append(dst, key...)
		dst = append(dst, '=')
		dst = appendExtension(dst, value)
	}
	labelled := func(key, label, value string) {
		if value != "" {
			put(key+"Label", label)
			put(key, value)
		}
	}
	put("rt", strconv.FormatInt(l.Time.UnixMilli(), 10))
	put("externalId", id[strings.LastIndexByte(id, '.')+1:]) // with the writer in front it would be cut
	put("deviceExternalId", l.Position.Writer)
	put("dvchost", e.observer(l))
	put("outcome", string(l.Outcome))
	put("reason", string(l.Reason))
	put("act", string(l.Action))
	put("suid", l.Actor.ID)
	put("spriv", within(l.Actor.Roles, 1023))
	if a := l.Actor.Addr.Unmap(); a.Is4() {
		put("src", a.String())
	} else if a.IsValid() {
		labelled("c6a2", "sourceIPv6", a.WithZone("").String())
	}
	if l.Count != 0 {
		put("cnt", strconv.Itoa(l.Count))
	}
	labelled("cs1", "purposeOfUse", string(l.Purpose))
	labelled("cs2", "patients", strings.Join(subjects, ","))
	labelled("cs3", "fields", within(fields(l), 4000))
	labelled("cs4", "decision", l.Decision)
	labelled("cs5", "leaf", leafText(l))
	labelled("cs6", "tenant", l.Actor.Tenant)
	labelled("flexString1", "correlation", correlation(l))
	labelled("flexString2", "resourceTypes", within(types(l), 1023))
	put("duid", l.User)
	put("dpriv", l.Role)
	put("cat", l.Rule)
	put("deviceFacility", l.Node)
	labelled("deviceCustomDate1", "since", millis(l.Since))
	labelled("deviceCustomDate2", "until", millis(l.Until))
	if d := l.Disclosure; d != nil {
		put("destinationServiceName", d.Recipient)
		put("requestContext", string(d.Basis))
	}
	if parts > 1 {
		labelled("cn1", "part", strconv.Itoa(part))
		labelled("cn2", "parts", strconv.Itoa(parts))
	}
	return append(dst, '\n')
}

// within joins the values by commas, as many as a key of most bytes takes; how
// many are left out stands behind them.
func within(values []string, most int) string {
	var b strings.Builder
	for i, v := range values {
		more := ",+" + strconv.Itoa(len(values)-i)
		if b.Len()+1+len(v)+len(more) > most {
			return b.String() + more
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(v)
	}
	return b.String()
}

func millis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

// appendHeader escapes for a field of the header: backslash and pipe; no line
// break is allowed there.
func appendHeader(dst []byte, s string) []byte {
	return escape(dst, s, func(dst []byte, c byte) []byte {
		switch c {
		case '\\', '|':
			return append(dst, '\\', c)
		case '\n', '\r':
			return append(dst, ' ')
		}
		return append(dst, c)
	})
}

// appendExtension escapes for a value: backslash, equals sign and line breaks.
func appendExtension(dst []byte, s string) []byte {
	return escape(dst, s, func(dst []byte, c byte) []byte {
		switch c {
		case '\\', '=':
			return append(dst, '\\', c)
		case '\n':
			return append(dst, `\n`...)
		case '\r':
			return append(dst, `\r`...)
		}
		return append(dst, c)
	})
}

// escape replaces what no text may hold: control characters and bytes that are
// not UTF-8.
func escape(dst []byte, s string, char func([]byte, byte) []byte) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(dst, '?')
		case n == 1 && (s[i] < ' ' && s[i] != '\n' && s[i] != '\r' || s[i] == 0x7f):
			dst = append(dst, ' ')
		case n == 1:
			dst = char(dst, s[i])
		default:
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return dst
}
