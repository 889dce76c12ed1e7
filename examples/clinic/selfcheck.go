// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"index/suffixarray"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/part164/part164/audit"
)

// The self-check is a visitor of the app: it speaks HTTP to it and reads files,
// and uses nothing else of this program (a test holds it to that). It makes a
// patient of its own and leaves it in the data folder.
//
// Every line can fail: `go build -tags break_totp` breaks what the line totp
// checks, and so on. See broken.go.

// A check is one line of the table.
type check struct {
	id, what string
	err      error
}

type checks []check

func (cs checks) ok() bool {
	for _, c := range cs {
		if c.err != nil {
			return false
		}
	}
	return len(cs) > 0
}

func (cs checks) String() string {
	var b strings.Builder
	failed := 0
	for _, c := range cs {
		result := "ok"
		if c.err != nil {
			result, failed = "FAILED", failed+1
		}
		fmt.Fprintf(&b, "%-7s %-9s %s", result, c.id, c.what)
		if c.err != nil {
			fmt.Fprintf(&b, ": %v", c.err)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%d checks, %d FAILED\n", len(cs), failed)
	return b.String()
}

// selfcheck visits the app at base, whose data folder is data; stop ends it.
func selfcheck(base, data, imports string, stop func() error) checks {
	v := &visit{base: base, data: data}
	err := v.setUp()
	var cs checks
	try := func(id, what string, f func() error) {
		if err == nil {
			cs = append(cs, check{id, what, f()})
		}
	}
	var sources []person
	if imports != "" {
		try("import", "each patient in the imported folder is found by the record number", func() error {
			var err error
			if sources, err = people(imports); err != nil {
				return err
			}
			return v.imported(sources)
		})
	}
	try("password", "a wrong password is refused", v.wrongPassword)
	try("factor", "a password without a code opens nothing", v.passwordOnly)
	try("totp", "a wrong code is refused", v.wrongCode)
	try("replay", "a code signs in once", v.replay)
	try("signin", "nothing is shown without a sign-in", v.noSignIn)
	try("cookie", "the session's cookie is HttpOnly and SameSite", v.cookie)
	try("cache", "no page may be kept in a cache", v.cache)
	try("origin", "a form from another site is refused", v.origin)
	try("search", "the nurse finds a patient by the beginning of a name", v.search)
	try("create", "a new patient is stored as typed", v.stored)
	try("mask", "the nurse sees the chart, and of the social security number a mask", v.mask)
	try("withhold", "billing sees nothing clinical, and reads why", v.withhold)
	try("purpose", "the purpose is shown, and one that the role does not have is refused", v.purpose)
	try("access", "a role that needs no records sees none", v.access)
	try("relation", "a chart is closed to a nurse who does not care for the patient", v.relation)
	try("oracle", "a refusal does not tell whether a record exists", v.oracle)
	try("glass", "in an emergency it opens, by a reason and the password, in three steps or fewer", v.glass)
	try("revoke", "emergency access that is ended opens nothing", v.revoke)
	try("review", "what was opened in an emergency waits for somebody else's review", v.review)
	try("edit", "an edit is stored, and counts the version up", v.edit)
	try("conflict", "of two edits of one version the second is refused", v.conflict)
	try("keep", "an edit leaves a masked field alone", v.keep)
	try("input", "a mask is no new value", v.input)
	try("audit", "the officer sees who opened and changed the record", v.audit)
	try("report", "that the officer looked is recorded, too", v.report)
	try("signout", "after signing out the old cookie opens nothing", v.signOut)

	// The last two read files: once with the app running, once after its end.
	needles := append(append(needlesOf(sources), v.patient.needles(nil)...), v.stranger.needles(nil)...)
	live := plaintext(data, needles)
	if serr := stop(); serr != nil {
		err = errors.Join(err, fmt.Errorf("the app did not stop well: %w", serr))
	}
	try("leak", "no identifier of a patient is in any file of the data folder", func() error {
		return errors.Join(live, plaintext(data, needles))
	})
	try("journal", "the journal verifies", func() error { return verify(data) })
	if err != nil {
		cs = append(cs, check{"visit", "the app can be visited", err})
	}
	return cs
}

// A visit is one run: five browsers, one a role, and the visit's own patient.
type visit struct {
	base, data                                string
	physician, nurse, billing, officer, admin *browser
	used                                      string // the code that signed the physician in
	patient                                   person
	path                                      string // of the patient's chart
	stranger                                  person // another patient, whom the nurse does not care for
	closed                                    string // the path of that chart
	emergency                                 string // the path of the nurse's emergency access
}

func (v *visit) setUp() error {
	var err error
	for login, b := range map[string]**browser{"physician": &v.physician, "nurse": &v.nurse, "billing": &v.billing, "officer": &v.officer, "admin": &v.admin} {
		var code string
		if *b, code, err = v.signIn(login); err != nil {
			return err
		}
		if login == "physician" {
			v.used = code
		}
	}
	v.patient, v.stranger = newPerson(), newPerson()
	if v.path, err = v.register(v.patient); err != nil {
		return err
	}
	if v.closed, err = v.register(v.stranger); err != nil {
		return err
	}
	a, err := v.physician.post(v.path+"/team", url.Values{"login": {"nurse"}})
	return a.want(err, http.StatusSeeOther)
}

// register has the physician file a patient, and returns the path of the chart.
func (v *visit) register(p person) (path string, err error) {
	a, err := v.physician.post("/patients", url.Values{
		"Name": {p.name()}, "MRN": {p.mrn}, "SSN": {p.ssn}, "Phone": {p.phone}, "Street": {p.street},
		"City": {p.city}, "BirthDate": {p.birthDate}, "Sex": {"female"}})
	if err != nil {
		return "", err
	}
	if a.status != http.StatusSeeOther || !chartPath.MatchString(a.location) {
		return "", fmt.Errorf("creating a patient answers %d", a.status)
	}
	return a.location, nil
}

var chartPath = regexp.MustCompile(`/patients/[0-9a-f-]{36}`)

// demo returns the password of a demo user and the code of now, which the
// sign-in page shows in development mode.
func (v *visit) demo(login string) (password, code string, err error) {
	a, err := newBrowser(v.base).get("/signin")
	if err != nil {
		return "", "", err
	}
	row := regexp.MustCompile(`<th scope="row">` + login + `</th><td><code>([^<]*)</code></td><td><code>([0-9]{6})</code>`).FindStringSubmatch(a.body)
	if row == nil {
		return "", "", fmt.Errorf("the sign-in page shows no demo user %s", login)
	}
	return html.UnescapeString(row[1]), row[2], nil
}

func (v *visit) signIn(login string) (*browser, string, error) {
	password, code, err := v.demo(login)
	if err != nil {
		return nil, "", err
	}
	b := newBrowser(v.base)
	a, err := b.post("/signin", url.Values{"login": {login}, "password": {password}})
	if err == nil && a.location == "/signin/code" {
		a, err = b.post("/signin/code", url.Values{"code": {code}})
	}
	if err == nil && (a.status != http.StatusSeeOther || a.location != "/") {
		err = fmt.Errorf("signing in as %s: %w", login, a.unexpected())
	}
	return b, code, err
}

func (v *visit) imported(sources []person) error {
	missing := 0
	for _, s := range sources {
		a, err := v.nurse.post("/patients/search", url.Values{"mrn": {s.mrn}})
		if err != nil {
			return err
		}
		if s.mrn != "" && len(chartPath.FindAllString(a.body, -1)) != 1 {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d patients are not found", missing, len(sources))
	}
	return nil
}

func (v *visit) wrongPassword() error {
	a, err := newBrowser(v.base).post("/signin", url.Values{"login": {"billing"}, "password": {"not the password"}})
	return a.want(err, http.StatusUnauthorized)
}

func (v *visit) passwordOnly() error {
	password, _, err := v.demo("officer")
	if err != nil {
		return err
	}
	b := newBrowser(v.base)
	a, err := b.post("/signin", url.Values{"login": {"officer"}, "password": {password}})
	if err := a.want(err, http.StatusSeeOther); err != nil {
		return err
	}
	a, err = b.get(v.path)
	return a.want(err, http.StatusSeeOther)
}

func (v *visit) wrongCode() error { return v.codeIs("admin", "", http.StatusUnauthorized) }

func (v *visit) replay() error { return v.codeIs("physician", v.used, http.StatusUnauthorized) }

// codeIs signs in with a code; an empty one stands for any wrong one.
func (v *visit) codeIs(login, code string, want int) error {
	password, right, err := v.demo(login)
	if err != nil {
		return err
	}
	if code == "" {
		code = string('0'+(right[0]-'0'+5)%10) + right[1:]
	}
	b := newBrowser(v.base)
	if _, err := b.post("/signin", url.Values{"login": {login}, "password": {password}}); err != nil {
		return err
	}
	a, err := b.post("/signin/code", url.Values{"code": {code}})
	return a.want(err, want)
}

func (v *visit) noSignIn() error {
	a, err := newBrowser(v.base).get(v.path)
	if err := a.want(err, http.StatusSeeOther); err != nil {
		return err
	}
	return a.without(v.patient.family)
}

func (v *visit) cookie() error {
	for _, c := range v.nurse.given {
		if strings.HasSuffix(c.Name, "session") && c.Value != "" {
			if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode && c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
				return errors.New("it is not")
			}
			return nil
		}
	}
	return errors.New("there is none")
}

func (v *visit) cache() error {
	for _, path := range []string{"/signin", "/patients", v.path, v.path + "/edit", "/nowhere"} {
		a, err := v.nurse.get(path)
		if err != nil {
			return err
		}
		if a.header.Get("Cache-Control") != "no-store" {
			return fmt.Errorf("%q may be kept", chartPath.ReplaceAllString(path, "/patients/ID"))
		}
	}
	return nil
}

func (v *visit) origin() error {
	a, err := v.nurse.send(http.MethodPost, "/patients/search", url.Values{"name": {v.patient.family}},
		http.Header{"Origin": {"https://elsewhere.example"}, "Sec-Fetch-Site": {"cross-site"}})
	return a.want(err, http.StatusForbidden)
}

func (v *visit) search() error {
	a, err := v.nurse.post("/patients/search", url.Values{"name": {strings.ToUpper(v.patient.family[:5]) + " " + v.patient.given[:2]}})
	return a.with(err, v.path, v.patient.name(), v.patient.mrn)
}

func (v *visit) stored() error {
	a, err := v.physician.get(v.path)
	p := v.patient
	return a.with(err, p.name(), p.mrn, p.phone, p.street, p.city, p.birthDate)
}

func (v *visit) mask() error {
	a, err := v.nurse.get(v.path)
	if err := a.with(err, v.patient.name(), "No allergies are recorded."); err != nil {
		return err
	}
	if state, shown := a.field("SSN"); state != "masked" || !strings.HasPrefix(shown, v.patient.mask()) {
		return fmt.Errorf("the field is %s", state)
	}
	return a.without(v.patient.ssn)
}

func (v *visit) withhold() error {
	a, err := v.billing.get(v.path)
	if err := a.with(err, v.patient.name()); err != nil {
		return err
	}
	for _, kind := range []string{"allergy", "condition", "medication", "observation", "document"} {
		_, section, _ := strings.Cut(a.body, `data-section="`+kind+`"`)
		section, _, _ = strings.Cut(section, "</section>")
		if !strings.Contains(section, "withheld") || !strings.Contains(section, "the access policy does not open this to billing") {
			return fmt.Errorf("%s is not withheld", kind)
		}
	}
	if state, shown := a.field("Email"); state != "withheld" || !strings.Contains(shown, "the policy does not show") {
		return errors.New("the e-mail address is not withheld")
	}
	return nil
}

func (v *visit) purpose() error {
	a, err := v.nurse.get(v.path)
	if err := a.with(err, "Purpose: <strong>treatment</strong>"); err != nil {
		return err
	}
	if a, err = v.officer.get(v.path + "/audit"); err != nil || !strings.Contains(a.body, `<option value="HCOMPL" selected>`) {
		return errors.Join(err, errors.New("the officer has no choice of purposes"))
	}
	a, err = v.nurse.get(v.path + "?purpose=HPAYMT")
	return a.want(err, http.StatusForbidden)
}

func (v *visit) access() error {
	for _, path := range []string{v.path, "/patients", v.path + "/edit"} {
		a, err := v.admin.get(path)
		if err := a.want(err, http.StatusForbidden); err != nil {
			return err
		}
	}
	a, err := v.nurse.get(v.path + "/audit")
	return a.want(err, http.StatusForbidden)
}

func (v *visit) relation() error {
	a, err := v.nurse.get(v.closed)
	if err := a.want(err, http.StatusForbidden); err != nil {
		return err
	}
	return errors.Join(a.without(v.stranger.family), a.without(v.stranger.mrn))
}

// oracle asks for what is there and for what is not.
func (v *visit) oracle() error {
	const missing = "/patients/00000000-0000-7000-8000-000000000164"
	for _, q := range []struct {
		b           *browser
		there, page string
	}{{v.nurse, v.closed, ""}, {v.billing, v.path, "/edit"}, {v.nurse, v.path, "/audit"}} {
		there, err := q.b.get(q.there + q.page)
		if err := there.want(err, http.StatusForbidden); err != nil {
			return err
		}
		not, err := q.b.get(missing + q.page)
		if err := not.want(err, http.StatusForbidden); err != nil {
			return err
		}
		if there.plain() != not.plain() {
			return errors.New("the answers differ")
		}
	}
	return nil
}

// plain is the body of a refusal without what is random in it, and without the
// ID that was asked for.
func (a answer) plain() string {
	body := regexp.MustCompile(`<code>[0-9a-f-]+</code>`).ReplaceAllString(a.body, "")
	return chartPath.ReplaceAllString(body, "/patients/ID")
}

// glass goes from the refusal to the chart, as a person does: by what is on the
// page.
func (v *visit) glass() error {
	refused, err := v.nurse.get(v.closed)
	if err := refused.want(err, http.StatusForbidden); err != nil {
		return err
	}
	link := regexp.MustCompile(`href="([^"]*)" data-offer="breakglass"`).FindStringSubmatch(refused.body)
	if link == nil {
		return errors.New("the refusal offers no emergency access")
	}
	steps := 1 // follow the link
	page, err := v.nurse.get(html.UnescapeString(link[1]))
	if err := page.want(err, http.StatusOK); err != nil {
		return err
	}
	action := regexp.MustCompile(`<form method="post" action="(/patients/[^"]*)"`).FindStringSubmatch(page.body)
	reason := regexp.MustCompile(`<option value="([a-z_]+)"`).FindStringSubmatch(page.body)
	if action == nil || reason == nil {
		return errors.New("there is no form with reasons")
	}
	password, _, err := v.demo("nurse")
	if err != nil {
		return err
	}
	var open error
	for _, no := range []url.Values{{"reason": {reason[1]}, "password": {"not the password"}}, {"reason": {"curiosity"}, "password": {password}}} {
		a, err := v.nurse.post(action[1], no)
		if err != nil {
			return err
		}
		if a.status == http.StatusSeeOther {
			open = errors.New("it opens without the password, or without a reason")
		}
	}
	steps++ // fill in the form
	a, err := v.nurse.post(action[1], url.Values{"reason": {reason[1]}, "password": {password}})
	if err := a.want(err, http.StatusSeeOther); err != nil {
		return err
	}
	chart, err := v.nurse.get(a.location)
	if err := chart.with(err, v.stranger.name(), "Emergency access until"); err != nil {
		return err
	}
	end := regexp.MustCompile(`action="(/emergencies/[^"/]*)/end"`).FindStringSubmatch(chart.body)
	if end == nil || steps > 3 {
		return errors.New("it cannot be ended, or takes too many steps")
	}
	v.emergency = end[1]
	a, err = v.nurse.get(v.closed + "/edit")
	return errors.Join(open, a.want(err, http.StatusForbidden))
}

func (v *visit) revoke() error {
	a, err := v.nurse.post(v.emergency+"/end", nil)
	if err := a.want(err, http.StatusSeeOther); err != nil {
		return err
	}
	a, err = v.nurse.get(v.closed)
	return a.want(err, http.StatusForbidden)
}

func (v *visit) review() error {
	finding := url.Values{"finding": {"explained"}}
	for _, f := range []func() (answer, error){
		func() (answer, error) { return v.nurse.get("/emergencies") },
		func() (answer, error) { return v.nurse.post(v.emergency+"/review", finding) },
	} {
		a, err := f()
		if err := a.want(err, http.StatusForbidden); err != nil {
			return err
		}
	}
	a, err := v.officer.get("/emergencies")
	if err := a.with(err, v.emergency, "nurse"); err != nil {
		return err
	}
	if a, err = v.officer.get(v.emergency); err != nil || !strings.Contains(a.body, "<code>reveal</code>") {
		return errors.Join(err, errors.New("the officer does not see what was opened"))
	}
	if a, err = v.officer.post(v.emergency+"/end", nil); a.want(err, http.StatusSeeOther) != nil {
		return a.want(err, http.StatusSeeOther)
	}
	if a, err = v.officer.post(v.emergency+"/review", finding); a.want(err, http.StatusSeeOther) != nil {
		return a.want(err, http.StatusSeeOther)
	}
	if a, err = v.officer.get("/emergencies"); err != nil {
		return err
	}
	return a.without(v.emergency)
}

// save posts the edit form as b was shown it, with changes.
func (v *visit) save(b *browser, change url.Values) (answer, error) {
	a, err := b.get(v.path + "/edit")
	if err != nil {
		return a, err
	}
	form := url.Values{}
	for _, m := range regexp.MustCompile(`<input[^>]* name="([A-Za-z]+)" value="([^"]*)"`).FindAllStringSubmatch(a.body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	for name, values := range change {
		form[name] = values
	}
	return b.post(v.path, form)
}

func (v *visit) edit() error {
	before, err := v.nurse.get(v.path)
	if err != nil {
		return err
	}
	v.patient.phone = "617-555-0199"
	a, err := v.save(v.nurse, url.Values{"Phone": {v.patient.phone}})
	if err := a.want(err, http.StatusSeeOther); err != nil {
		return err
	}
	after, err := v.nurse.get(v.path)
	if err := after.with(err, v.patient.phone); err != nil {
		return err
	}
	if before.version()+1 != after.version() {
		return errors.New("the version is not one more")
	}
	return nil
}

func (v *visit) conflict() error {
	a, err := v.nurse.get(v.path)
	if err != nil {
		return err
	}
	version := fmt.Sprint(a.version())
	first, err := v.nurse.post(v.path, url.Values{"version": {version}, "City": {"Firstville"}})
	if err := first.want(err, http.StatusSeeOther); err != nil {
		return err
	}
	second, err := v.physician.post(v.path, url.Values{"version": {version}, "City": {"Secondville"}})
	if err := second.want(err, http.StatusConflict); err != nil {
		return err
	}
	if err := second.with(nil, "Stored now: Firstville"); err != nil {
		return err
	}
	a, err = v.nurse.get(v.path)
	return a.with(err, "Firstville")
}

func (v *visit) keep() error {
	a, err := v.save(v.physician, url.Values{"Street": {v.patient.street + " A"}})
	if err := a.want(err, http.StatusSeeOther); err != nil {
		return err
	}
	if a, err = v.physician.get(v.path); err != nil {
		return err
	}
	if _, shown := a.field("SSN"); !strings.HasPrefix(shown, v.patient.mask()) {
		return errors.New("the number has changed")
	}
	return a.with(nil, v.patient.street+" A")
}

func (v *visit) input() error {
	a, err := v.save(v.physician, url.Values{"SSN": {v.patient.mask()}})
	return a.want(err, http.StatusUnprocessableEntity)
}

// events returns the rows of the officer's page.
func (v *visit) events() ([]string, error) {
	a, err := v.officer.get(v.path + "/audit")
	if err := a.want(err, http.StatusOK); err != nil {
		return nil, err
	}
	_, body, _ := strings.Cut(a.body, "<tbody>")
	return strings.Split(body, "<tr>"), nil
}

// event reports whether there is a row with all the words.
func (v *visit) event(words ...string) error {
	rows, err := v.events()
	if err != nil {
		return err
	}
	for _, row := range rows {
		all := true
		for _, w := range words {
			all = all && strings.Contains(row, w)
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("no event has %s", strings.Join(words, ", "))
}

func (v *visit) audit() error {
	return errors.Join(
		v.event("<td>nurse</td>", ">reveal<", "<td>treatment</td>", "SSN"),
		v.event("<td>nurse</td>", ">write.attempt<", "City"),
		v.event("<td>billing</td>", ">reveal<", "<td>healthcare payment</td>"))
}

func (v *visit) report() error {
	if _, err := v.events(); err != nil {
		return err
	}
	return v.event("<td>officer</td>", ">report<", "<td>health compliance</td>")
}

func (v *visit) signOut() error {
	b := newBrowser(v.base)
	u, err := url.Parse(v.base)
	if err != nil {
		return err
	}
	b.http.Jar.SetCookies(u, v.nurse.http.Jar.Cookies(u)) // somebody kept a copy
	a, err := v.nurse.post("/signout", nil)
	if err := a.want(err, http.StatusSeeOther); err != nil {
		return err
	}
	a, err = b.get(v.path)
	return a.want(err, http.StatusSeeOther)
}

// verify checks lines, chain and signatures of the journal, and that it knows
// how each write ended.
func verify(data string) error {
	report, err := audit.Verify(context.Background(), filepath.Join(data, "audit"), audit.VerifyConfig{})
	switch {
	case err != nil:
		return err
	case len(report.Defects) > 0:
		return errors.New(report.Defects[0].String())
	case report.OpenAttempts > 0:
		return fmt.Errorf("the outcome of %d writes is not known", report.OpenAttempts)
	}
	return nil
}

// A browser keeps cookies and follows no redirect.
type browser struct {
	base  string
	http  *http.Client
	given []*http.Cookie
}

func newBrowser(base string) *browser {
	jar, _ := cookiejar.New(nil) // never fails
	return &browser{base: base, http: &http.Client{Jar: jar, Timeout: 2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// An answer is what came back.
type answer struct {
	status         int
	location, body string
	header         http.Header
}

func (b *browser) get(path string) (answer, error) { return b.send(http.MethodGet, path, nil, nil) }

func (b *browser) post(path string, form url.Values) (answer, error) {
	return b.send(http.MethodPost, path, form, http.Header{"Sec-Fetch-Site": {"same-origin"}})
}

func (b *browser) send(method, path string, form url.Values, header http.Header) (answer, error) {
	req, err := http.NewRequest(method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	for k, vs := range header {
		req.Header[k] = vs
	}
	req.Header.Set("Accept", "text/html")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b.given = append(b.given, resp.Cookies()...)
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("Location"), string(body), resp.Header}, err
}

func (a answer) want(err error, status int) error {
	if err == nil && a.status != status {
		err = fmt.Errorf("%w, not %d", a.unexpected(), status)
	}
	return err
}

// unexpected is the error of an answer. Each run spends some tries of the demo
// users, so that the fifth or so in a row on one folder meets the throttle.
func (a answer) unexpected() error {
	if a.status == http.StatusTooManyRequests {
		return errors.New("the throttle answers 429: wait some minutes, or take a new folder")
	}
	return fmt.Errorf("it answers %d", a.status)
}

// with wants a page that shows all the texts.
func (a answer) with(err error, texts ...string) error {
	for i, t := range texts {
		if err == nil && !strings.Contains(html.UnescapeString(a.body), t) {
			err = fmt.Errorf("the page (%d) lacks value %d of %d", a.status, i+1, len(texts))
		}
	}
	return err
}

func (a answer) without(text string) error {
	if strings.Contains(a.body, text) {
		return errors.New("the page shows what it must not")
	}
	return nil
}

// field returns the state and the content of a field of the chart.
func (a answer) field(name string) (state, shown string) {
	m := regexp.MustCompile(`data-field="` + name + `" data-state="([a-z]+)">(.*)</dd>`).FindStringSubmatch(a.body)
	if m == nil {
		return "missing", ""
	}
	return m[1], m[2]
}

func (a answer) version() (n int) {
	if m := regexp.MustCompile(`Version ([0-9]+)\.`).FindStringSubmatch(a.body); m != nil {
		_, _ = fmt.Sscan(m[1], &n) // digits
	}
	return n
}

// A person is a patient as the visitor knows them.
type person struct {
	given, family, mrn, ssn, phone, street, city, birthDate string
	names                                                   []string // more names
}

// newPerson invents somebody who is not in the database.
func newPerson() person {
	letters := strings.Map(func(r rune) rune { return 'a' + r%26 }, rand.Text())
	digits := strings.Map(func(r rune) rune { return '0' + r%10 }, rand.Text())
	return person{
		given: "Q" + letters[:6], family: "Z" + letters[6:14], mrn: "SC-" + digits[:8], ssn: "9" + digits[8:10] + "-" + digits[10:12] + "-" + digits[12:16],
		phone: "617-555-0" + digits[16:19], street: digits[19:22] + " " + strings.ToUpper(letters[14:15]) + letters[15:22] + " Lane", city: "Elmton", birthDate: "1887-03-0" + string('1'+digits[22]%9),
	}
}

func (p person) name() string { return p.given + " " + p.family }
func (p person) mask() string { return "***-**-" + p.ssn[len(p.ssn)-4:] }

// needles are what must be in no file: full names, parts of names of five
// letters or more, numbers, address lines, and the birth date if nothing
// happened on that day.
func (p person) needles(eventDays map[string]bool) []string {
	all := []string{p.name(), p.mrn, p.ssn, p.phone, p.street}
	for _, n := range append([]string{p.given, p.family}, p.names...) {
		if len([]rune(n)) >= 5 {
			all = append(all, n)
		}
	}
	if !eventDays[p.birthDate] {
		all = append(all, p.birthDate)
	}
	var out []string
	for _, n := range all {
		if strings.TrimSpace(n) != "" {
			out = append(out, n)
		}
	}
	return out
}

// people reads the patients in the bundles and resources of a folder.
func people(dir string) ([]person, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var out []person
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var b struct {
			source
			Entry []struct{ Resource source }
		}
		// Other resources than patients have other things under these names,
		// and what is no JSON the import has reported.
		_ = json.Unmarshal(text, &b)
		for _, e := range append(b.Entry, struct{ Resource source }{b.source}) {
			if e.Resource.ResourceType == "Patient" {
				out = append(out, e.Resource.person())
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("there is no patient in the folder")
	}
	return out, nil
}

// A source is what the visitor reads of a FHIR patient.
type source struct {
	ResourceType string
	Identifier   []struct {
		Type  struct{ Coding []struct{ Code string } }
		Value string
	}
	Name []struct {
		Family string
		Given  []string
	}
	Telecom   []struct{ Value string }
	Address   []struct{ Line []string }
	BirthDate string
}

func (s source) person() person {
	p := person{birthDate: s.BirthDate}
	for _, i := range s.Identifier {
		for _, c := range i.Type.Coding {
			switch c.Code {
			case "MR":
				p.mrn = i.Value
			case "SS":
				p.ssn = i.Value
			}
		}
	}
	for i, n := range s.Name {
		if i == 0 {
			p.given, p.family = strings.Join(n.Given, " "), n.Family
		}
		p.names = append(append(p.names, n.Family), n.Given...)
	}
	if len(s.Telecom) > 0 {
		p.phone = s.Telecom[0].Value
	}
	if len(s.Address) > 0 && len(s.Address[0].Line) > 0 {
		p.street = s.Address[0].Line[0]
	}
	return p
}

// needlesOf are the needles of imported patients. Days on which anything
// happened to anybody may stand in clear, so birth dates are left to the test
// that knows them.
func needlesOf(sources []person) []string {
	var out []string
	for _, s := range sources {
		out = append(out, s.needles(map[string]bool{s.birthDate: true})...)
	}
	return out
}

// plaintext looks for the needles in every file of a folder, in the encodings
// in which text travels.
func plaintext(dir string, needles []string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since the folder was read
		}
		if err != nil {
			return err
		}
		index := suffixarray.New(data)
		for i, n := range needles {
			for encoding, form := range encodings(n) {
				if len(index.Lookup(form, 1)) > 0 {
					return fmt.Errorf("%s holds needle %d as %s", filepath.Base(path), i+1, encoding)
				}
			}
		}
		return nil
	})
}

func encodings(s string) map[string][]byte {
	little, big := []byte{}, []byte{}
	for _, u := range utf16.Encode([]rune(s)) {
		little, big = append(little, byte(u), byte(u>>8)), append(big, byte(u>>8), byte(u))
	}
	lower := hex.EncodeToString([]byte(s))
	out := map[string][]byte{
		"UTF-8": []byte(s), "UTF-16LE": little, "UTF-16BE": big,
		"hex": []byte(lower), "HEX": bytes.ToUpper([]byte(lower)),
	}
	for before := range 3 {
		// Only the digits that the needle alone decides.
		coded := base64.StdEncoding.EncodeToString(append(make([]byte, before), s...))
		from, to := (before*8+5)/6, (before+len(s))*8/6
		out[fmt.Sprintf("base64 (%d)", before)] = []byte(coded[from:to])
	}
	return out
}
