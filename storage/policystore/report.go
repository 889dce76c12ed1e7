// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report/document"
	"github.com/part164/part164/storage/internal/again"
	"github.com/part164/part164/storage/internal/table"
)

// A Report lists who holds which role, by which link or grant, since when and by
// whose decision, and what each role may: for the recurring review of access (45
// CFR 164.308(a)(4)(ii)(C), access establishment and modification), which ends
// with [Store.SignOff]. encoding/json prints its fields, [Report.Document] prints
// it for people. It holds the IDs of the workforce, and no PHI.
type Report struct {
	Made     time.Time `json:"made"`
	Digest   string    `json:"digest"`           // of tenant, revision, holders and roles, as the policy has them: what a sign-off signs
	Tenant   string    `json:"tenant,omitempty"` // whose; empty: all
	Revision uint64    `json:"revision"`
	Holders  []Holding `json:"holders,omitempty"` // by tenant, user and role
	Granted  []Holding `json:"granted,omitempty"` // by grants that are in force, by tenant, user and role; needs trails
	Roles    []Role    `json:"roles,omitempty"`   // by name
	Pending  []Entry   `json:"pending,omitempty"` // that wait for approval

	Trails   int       `json:"trails"`             // given
	Known    time.Time `json:"known,omitzero"`     // since when each trail that tells who did something does; zero where they tell nothing
	Reviewed *Origin   `json:"reviewed,omitempty"` // the last sign-off in the trails, with the revision that it was about; nil where there is none
}

// A Holding is one role that a user has, by a link of its own, through another
// role, or by a grant.
type Holding struct {
	Tenant string   `json:"tenant"`
	User   string   `json:"user"`
	Role   string   `json:"role"`
	Path   []string `json:"path,omitempty"` // from the role that the user is linked to, to Role; one where it is the same
	Since  Origin   `json:"since"`          // of the newest link on the way; of a grant its last approval, without a revision

	LastUse time.Time `json:"lastUse,omitzero"` // when the user last signed in or worked with a record, in whatever role; zero where the trails do not tell
	Grant   string    `json:"grant,omitempty"`  // ID of the grant; empty where the policy says it
	Until   time.Time `json:"until,omitzero"`   // of the grant
}

// A Role is what a role may by rules of its own, and which roles it inherits.
type Role struct {
	Name     string    `json:"name"`
	Holders  int       `json:"holders"` // users who have it, by whatever way
	Rules    []Granted `json:"rules,omitempty"`
	Inherits []Granted `json:"inherits,omitempty"`
}

// A Granted is one row of the policy and where it comes from.
type Granted struct {
	Row   string `json:"row"`
	Since Origin `json:"since"`
}

// An Origin is the change that put a row in force.
type Origin struct {
	Revision  uint64       `json:"revision"`
	Time      time.Time    `json:"time"`
	Author    string       `json:"author"`
	Approver  string       `json:"approver,omitempty"` // empty where nobody had to approve
	Reason    audit.Reason `json:"reason"`
	Reference string       `json:"reference"`
}

// Report reads who holds what. The trails of all processes, where they are given,
// say besides when each user last did something, which roles are held by a grant,
// and who signed off the last report: they are read whole.
//
// The principal of ctx needs the right to access.Read on [Resource]. The report
// is about its tenant, and about all for one of Config.Operator.
func (s *Store) Report(ctx context.Context, trails ...audit.History) (*Report, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.may(ctx, scope, access.Read, nil); err != nil {
		return nil, err
	}
	r, err := s.holdings(ctx, scope)
	if err != nil {
		return nil, err
	}
	if err := r.replay(ctx, trails); err != nil {
		return nil, err
	}
	if r.Pending, err = s.Pending(ctx); err != nil {
		return nil, err
	}
	if len(r.Pending) == 0 {
		return &r.Report, nil
	}
	now, err := s.basis(ctx)
	if err != nil {
		return nil, err
	}
	for i := range r.Pending {
		p := &r.Pending[i]
		switch p.Effect, err = s.preview(ctx, scope, now, p.ID); {
		case errors.Is(err, ErrForged):
			p.Effect = &Effect{Refused: err.Error()}
		case err != nil && !errors.Is(err, ErrNoProposal): // decided in between
			return nil, err
		}
	}
	return &r.Report, nil
}

// holdings reads what the policy in force says, and sums it up.
func (s *Store) holdings(ctx context.Context, scope *access.Scope) (*reporting, error) {
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	r := &reporting{Report: Report{Made: s.cfg.Now().UTC(), Tenant: scope.Principal().Tenant}}
	if s.isOperator(r.Tenant) {
		r.Tenant = ""
	}
	err = again.Do(ctx, func() error {
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return r.read(s, tx) }, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	})
	if err != nil {
		return nil, err
	}
	r.make()
	text, err := json.Marshal([]any{r.Tenant, r.Revision, r.Holders, r.Roles})
	if err != nil {
		return nil, fmt.Errorf("policystore: report: %w", err)
	}
	sum := sha256.Sum256(text)
	r.Digest = hex.EncodeToString(sum[:8])
	return r, nil
}

type reporting struct {
	Report
	added   map[row]uint64
	origins map[uint64]Origin
}

func (r *reporting) read(s *Store, tx *gorm.DB) error {
	rev, err := s.readRevision(tx)
	if err != nil {
		return err
	}
	r.Revision = rev.Revision
	if r.added, err = addedIn(tx); err != nil {
		return err
	}
	var changes []changeTable
	if err := tx.Where("status = ?", applied).Find(&changes).Error; err != nil {
		return fmt.Errorf("policystore: read policy_changes: %w", err)
	}
	r.origins = make(map[uint64]Origin, len(changes))
	for _, c := range changes {
		r.origins[*c.Revision] = Origin{
			Revision: *c.Revision, Time: table.Time(c.DecidedAt), Author: c.Author, Approver: c.Approver, Reason: audit.Reason(c.Reason), Reference: c.Reference,
		}
	}
	return nil
}

func (r *reporting) origin(of row) Origin {
	if o, ok := r.origins[r.added[of]]; ok {
		return o
	}
	return Origin{Revision: r.added[of]} // no change of this revision: Verify says so
}

// in reports whether a row holds where the report is about.
func (r *reporting) in(of row) bool {
	return r.Tenant == "" || of.tenant() == every || of.tenant() == r.Tenant
}

// make fills the lists from the rows.
func (r *reporting) make() {
	up := make(map[string][]row) // role links by member
	roles := make(map[string]*Role)
	role := func(name string) *Role {
		if roles[name] == nil {
			roles[name] = &Role{Name: name}
		}
		return roles[name]
	}
	rows := slices.SortedFunc(maps.Keys(r.added), row.compare)
	for _, of := range rows {
		if !r.in(of) {
			continue
		}
		switch of.kind {
		case ruleRow:
			to := role(of.f[0])
			to.Rules = append(to.Rules, Granted{of.String(), r.origin(of)})
		case roleLink:
			to := role(of.f[1])
			to.Inherits = append(to.Inherits, Granted{of.String(), r.origin(of)})
			role(of.f[2])
			up[of.f[1]] = append(up[of.f[1]], of)
		}
	}
	for _, of := range rows {
		if of.kind == userLink && r.in(of) {
			r.hold(of, up, role)
		}
	}
	slices.SortStableFunc(r.Holders, func(a, b Holding) int {
		return strings.Compare(a.Tenant+"\x00"+a.User+"\x00"+a.Role, b.Tenant+"\x00"+b.User+"\x00"+b.Role)
	})
	counted := make(map[[3]string]bool)
	for _, h := range r.Holders {
		if key := [3]string{h.Tenant, h.User, h.Role}; !counted[key] {
			counted[key] = true
			role(h.Role).Holders++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		r.Roles = append(r.Roles, *roles[name])
	}
}

// hold adds the role of one link, and those that it inherits, each by the
// shortest way.
func (r *reporting) hold(link row, up map[string][]row, role func(string) *Role) {
	tenant, user, first := link.f[0], link.f[1], link.f[2]
	role(first)
	queue := []Holding{{Tenant: tenant, User: user, Role: first, Path: []string{first}, Since: r.origin(link)}}
	seen := map[string]bool{first: true}
	for ; len(queue) > 0; queue = queue[1:] {
		h := queue[0]
		r.Holders = append(r.Holders, h)
		for _, to := range up[h.Role] {
			if seen[to.f[2]] || to.f[0] != every && to.f[0] != tenant {
				continue
			}
			seen[to.f[2]] = true
			next := Holding{Tenant: tenant, User: user, Role: to.f[2], Path: append(slices.Clone(h.Path), to.f[2]), Since: h.Since}
			if o := r.origin(to); o.Revision > next.Since.Revision {
				next.Since = o
			}
			queue = append(queue, next)
		}
	}
}

// Document is the report as it is printed.
func (r *Report) Document() *document.Document {
	whose := r.Tenant
	if whose == "" {
		whose = "every tenant"
	}
	users := make(map[string]bool)
	holders := make([][]string, len(r.Holders))
	for i, h := range r.Holders {
		users[h.Tenant+"\x00"+h.User] = true
		by := "directly"
		if len(h.Path) > 1 {
			by = "through " + strings.Join(h.Path[:len(h.Path)-1], ", ")
		}
		holders[i] = append([]string{h.User, h.Tenant, h.Role, by, r.lastUse(h)}, h.Since.cells()...)
	}
	granted := make([][]string, len(r.Granted))
	for i, h := range r.Granted {
		role := h.Role
		if role == "" {
			role = "emergency access"
		}
		granted[i] = []string{h.User, h.Tenant, role, document.Stamp(h.Since.Time), document.Stamp(h.Until), h.Since.Author, string(h.Since.Reason), h.Grant}
	}
	var rules [][]string
	for _, role := range r.Roles {
		for _, g := range slices.Concat(role.Inherits, role.Rules) {
			rules = append(rules, append([]string{role.Name, g.Row}, g.Since.cells()...))
		}
	}
	unheld := 0
	for _, role := range r.Roles {
		if role.Holders == 0 {
			unheld++
		}
	}
	pending := make([][]string, len(r.Pending))
	var effects [][]string
	for i, p := range r.Pending {
		for _, line := range p.Effect.lines() {
			effects = append(effects, []string{p.Reference, line})
		}
		pending[i] = []string{document.Stamp(p.Proposed), p.by(), string(p.Reason), p.Reference, strings.Join(p.Added, "; "), strings.Join(p.Removed, "; ")}
	}
	since := []string{"Since (UTC)", "Revision", "By", "Approved by", "Reason"}
	return &document.Document{
		Title: "Who may do what",
		Lead: []string{"Each role that a user has, and each rule of a role, with the change that put it in force. " +
			"Ask of each line whether the user's duties still need it, and take away what they do not (45 CFR 164.308(a)(4)(ii)(C))."},
		Facts: [][2]string{
			{"Tenant", whose}, {"Made", document.Stamp(r.Made)}, {"Revision of the policy", fmt.Sprint(r.Revision)}, {"Digest", r.Digest},
			{"Users", fmt.Sprint(len(users))}, {"Roles", fmt.Sprint(len(r.Roles))}, {"Roles that nobody has", fmt.Sprint(unheld)},
			{"Changes that wait for approval", fmt.Sprint(len(r.Pending))}, {"Last signed off", r.signedOff()},
		},
		Tables: []document.Table{
			{Caption: "Users and their roles", Columns: append([]string{"User", "Tenant", "Role", "How", "Last active (UTC)"}, since...), Rows: holders, Empty: "No user has a role."},
			{Caption: "Rights for a time", Columns: []string{"User", "Tenant", "Role", "Since (UTC)", "Until (UTC)", "By", "Reason", "Grant"}, Rows: granted, Empty: r.ungranted()},
			{Caption: "Roles and what they may", Columns: append([]string{"Role", "What"}, since...), Rows: rules, Empty: "There are no rules."},
			{Caption: "Changes that wait for approval", Columns: []string{"Proposed (UTC)", "By", "Reason", "Reference", "Would add", "Would take away"}, Rows: pending, Empty: "None."},
			{Caption: "What they would do", Columns: []string{"Reference", "Gained (+), lost (-), and what it would leave behind"}, Rows: effects, Empty: "Nothing."},
		},
		Notes: []string{
			"Where users bring their roles from a sign-in elsewhere, that place knows who has which, and this report does not.",
			"Whether the tables are what recorded changes made of them is what Store.Verify says.",
			"Last active is when the user last signed in or worked with a record, in whatever role, as the trails that were given tell.",
		},
	}
}

// by is who proposed it, and for whom.
func (e Entry) by() string {
	if e.OnBehalf != "" {
		return e.Author + " for " + e.OnBehalf
	}
	return e.Author
}

func (o Origin) cells() []string {
	approver, reason := o.Approver, string(o.Reason)
	if approver == "" {
		approver = "nobody"
	}
	if o.Reference != "" {
		reason += " (" + o.Reference + ")"
	}
	return []string{document.Stamp(o.Time), fmt.Sprint(o.Revision), o.Author, approver, reason}
}
