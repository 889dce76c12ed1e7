// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
)

// TestDecodeRefusesWhatNoJournalWrites puts into every string of a line what a
// terminal obeys, and what looks like more than one value.
func TestDecodeRefusesWhatNoJournalWrites(t *testing.T) {
	t.Parallel()
	const hash = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
	text := `{"seq":7,"prev":"x","time":"2026-01-02T03:04:05.000006Z","type":"` + string(Disclosed) + `","attempt":"j1.3","outcome":"success","reason":"","action":"read",` +
		`"code":"` + string(access.DenyRule) + `","decision":"d-1","request":"q-1","citation":"164.512(a)","about":"j1.4","rule":"bulk","root":"` + hash + `","node":"n-1",` +
		`"user":"u-2","user_kind":"human","actor":{"id":"u-1","tenant":"t-1","kind":"human","behalf":"u-3","behalf_kind":"human","roles":["nurse"],"session":"s-1","addr":"192.0.2.1"},` +
		`"purpose":"TREAT","disclosure":{"basis":"law","recipient":"c-1","protocol":"p-1","frequency":"daily"},"detail":"` + hash + `",` +
		`"rotation":{"from":"part164/j1+a1b2c3d4+AaBb","to":"part164/j1+a1b2c3d5+AaBb"},` +
		`"objects":[{"type":"patient","tenant":"t-2","fields":["name"],"refs":[{"record":"r-1","patient":"_-AbCdEfGhIjKlMnOpQrSt","digests":["0123456789abcdef"]}]}],"crc":"01234567"}`
	if _, err := decode("j1", []byte(text)); err != nil {
		t.Fatal(err)
	}
	// Every string value but those that the frame checks.
	n := 0
	for _, name := range []string{"attempt", "outcome", "reason", "action", "code", "decision", "request", "citation", "about", "rule", "root", "node", "user", "user_kind",
		"id", "tenant", "kind", "behalf", "behalf_kind", "session", "addr", "purpose", "basis", "recipient", "protocol", "frequency", "detail", "from", "to", "type", "record", "patient"} {
		for at := 0; ; {
			i := strings.Index(text[at:], `"`+name+`":"`)
			if i < 0 {
				break
			}
			at += i + len(name) + 4
			n++
			for _, bad := range []string{`\u001b[2J`, `\n`, ` `, `é`, `\u202e`, `/`} {
				if name == "from" || name == "to" {
					bad = " " + bad // a key has a slash
				}
				forged := text[:at] + bad + text[at:]
				if s, err := decode("j1", []byte(forged)); err == nil {
					t.Errorf("%s takes %q: %+v", name, bad, s)
				} else if strings.Contains(err.Error(), "\x1b") {
					t.Errorf("%s: the error repeats it: %q", name, err)
				}
			}
		}
	}
	for _, list := range []string{"roles", "fields", "digests"} {
		n++
		if s, err := decode("j1", []byte(strings.Replace(text, `"`+list+`":["`, `"`+list+`":["\u001b[2J`, 1))); err == nil {
			t.Errorf("%s: %+v", list, s)
		}
	}
	if n != 37 {
		t.Errorf("%d strings were attacked", n)
	}
	for what, change := range map[string][2]string{
		"a detail that is a path":      {`"detail":"` + hash, `"detail":"../../../../../../../../../../../../../../audit.kek`},
		"a detail of another length":   {`"detail":"` + hash, `"detail":"` + hash[:42]},
		"a negative count":             {`"purpose"`, `"count":-1,"purpose"`},
		"an assurance above all":       {`"session"`, `"assurance":9,"session"`},
		"a purpose that is none":       {`"TREAT"`, `"SPITE"`},
		"an address with a zone":       {`192.0.2.1`, `fe80::1%eth0`},
		"an ID that is too long":       {`"u-1"`, `"` + strings.Repeat("u", 65) + `"`},
		"a rotation to another's key":  {`"to":"part164/`, `"to":"example.com/`},
		"a disclosure to nobody":       {`"recipient":"c-1"`, `"recipient":""`},
		"a negative version":           {`"record"`, `"version":-1,"record"`},
		"a kind that is none":          {`"kind":"human","behalf"`, `"kind":"robot","behalf"`},
		"an object that has no type":   {`"type":"patient"`, `"type":""`},
		"a rule that is not one word":  {`"bulk"`, `"two words"`},
		"a hash that has two readings": {`"root":"` + hash, `"root":"` + hash[:42] + "V"},
	} {
		forged := strings.Replace(text, change[0], change[1], 1)
		if forged == text {
			t.Fatal(what)
		}
		if s, err := decode("j1", []byte(forged)); err == nil || errors.Is(err, ErrNewer) {
			t.Errorf("%s: %+v, %v", what, s, err)
		}
	}
}

// What a journal writes it reads again, whatever Stamp lets through.
func TestDecodeTakesWhatStampDoes(t *testing.T) {
	t.Parallel()
	k := testKeys(t)
	ctx := access.With(t.Context(), access.Principal{ID: "u:1.a_b-c", Tenant: "t-1", Kind: access.Proxy, OnBehalf: "r-1", OnBehalfKind: access.Patient, Roles: []string{"nurse"}, Session: "0198c5d2-7f3b-7a10-8e5c-3d1f0a9b2c4d", Assurance: 3}, access.BreakGlass)
	for _, ev := range []Event{
		{Type: Revealed, Outcome: Partial, Action: "read.some", Count: 3, Objects: []Object{{Type: "a.b_1", Record: strings.Repeat("r", 64), Patient: "p", Fields: []string{"x.y"}, Denied: true}}},
		{Type: Alerted, Outcome: Failure, Reason: ReasonLimit, Rule: "bulk", About: k.writer + ".18446744073709551615", User: "u", UserKind: access.Patient},
		{Type: Held, Outcome: Success, Reason: ReasonCourt, Citation: "164.512(e)(1)(i)", Since: time.Unix(0, 0), Until: time.Unix(9, 0)},
	} {
		s, err := Stamp(ctx, ev)
		if err != nil {
			t.Fatal(err)
		}
		bodies, err := k.bodies(&s)
		if err != nil {
			t.Fatal(err)
		}
		line, _ := newLineWriter().append(nil, 7, true, new(leaf), appendTime(nil, time.Now()), batch{}, bodies[0])
		got, err := decode(k.writer, bytes.TrimSpace(line))
		if err != nil || got.Type != ev.Type {
			t.Errorf("%s: %v", ev.Type, err)
		}
		if !json.Valid(line) {
			t.Errorf("%s: no JSON", ev.Type)
		}
	}
}
