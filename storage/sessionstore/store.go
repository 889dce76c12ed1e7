// SPDX-License-Identifier: Apache-2.0

package sessionstore

import (
	"context"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
	"github.com/part164/part164/storage/internal/table"
)

// Store is a session.Store in a database. Make it with [New]; it is safe for
// concurrent use.
type Store struct {
	db   *gorm.DB
	inTx bool // db is an open transaction
}

var _ session.Store = (*Store)(nil)

// New returns the store in db, whose tables [Migrate] made. Statements are not
// logged, because their arguments are hashes of tokens and passwords.
func New(db *gorm.DB) *Store { return &Store{db: table.Quiet(db)} }

// CreateAccount implements session.Store.
func (s *Store) CreateAccount(ctx context.Context, a session.Account) error {
	ok, err := s.exec(ctx, "create account", func(db *gorm.DB) *gorm.DB {
		return db.Clauses(clause.OnConflict{DoNothing: true}).Create(&userRow{
			Tenant: table.ID(a.Tenant), ID: table.ID(a.ID), LoginKey: loginKey(a.Tenant, a.Login), Kind: string(a.Kind), Login: a.Login,
			Roles: strings.Join(a.Roles, " "), Disabled: a.Disabled, Epoch: a.Epoch, Created: table.Nanos(a.Created),
			Password: a.Password, TOTP: a.TOTP, TOTPNext: a.TOTPNext, TOTPStep: a.TOTPStep,
		})
	})
	if err == nil && !ok {
		return session.ErrExists
	}
	return err
}

// AccountByLogin implements session.Store.
func (s *Store) AccountByLogin(ctx context.Context, tenant, login string) (session.Account, error) {
	return found(s.db.WithContext(ctx).Where("login_key = ?", loginKey(tenant, login)))
}

// Account implements session.Store.
func (s *Store) Account(ctx context.Context, tenant, userID string) (session.Account, error) {
	return found(s.db.WithContext(ctx).Where("tenant = ? AND id = ?", table.ID(tenant), table.ID(userID)))
}

func found(q *gorm.DB) (session.Account, error) {
	r, ok, err := first[userRow](q, "read account")
	if err != nil {
		return session.Account{}, err
	}
	if !ok {
		return session.Account{}, session.ErrNotFound
	}
	return r.account(), nil
}

// update changes columns of one user's row, where the condition holds.
func (s *Store) update(ctx context.Context, what, tenant, userID string, set map[string]any, where string, args ...any) (bool, error) {
	return s.exec(ctx, what, func(db *gorm.DB) *gorm.DB {
		return db.Model(&userRow{}).Where("tenant = ? AND id = ?", table.ID(tenant), table.ID(userID)).Where(where, args...).Updates(set)
	})
}

// ChangeAccount implements session.Store. The user's row is changed first, so
// that changes of one user queue there.
func (s *Store) ChangeAccount(ctx context.Context, tenant, userID string, ch session.Change, at time.Time) ([]session.Session, error) {
	set := map[string]any{"epoch": gorm.Expr("epoch + 1")}
	if ch.Password != nil {
		set["password"] = *ch.Password
	}
	if ch.Roles != nil {
		set["roles"] = strings.Join(*ch.Roles, " ")
	}
	if ch.Disabled != nil {
		set["disabled"] = *ch.Disabled
	}
	var ended []session.Session
	err := s.transaction(ctx, changeAccount, func(in *Store) (err error) {
		ended, err = in.change(ctx, tenant, userID, set, at)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ended, nil
}

const changeAccount = "change account"

// change is ChangeAccount inside a transaction.
func (s *Store) change(ctx context.Context, tenant, userID string, set map[string]any, at time.Time) (ended []session.Session, err error) {
	ok, err := s.update(ctx, changeAccount, tenant, userID, set, "")
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, session.ErrNotFound
	}
	mine := s.db.Where("tenant = ? AND user_id = ?", table.ID(tenant), table.ID(userID)).Session(&gorm.Session{})
	if err := mine.Delete(&pendingRow{}).Error; err != nil {
		return nil, err
	}
	var live []sessionRow
	if err := mine.Where("ended = 0").Find(&live).Error; err != nil {
		return nil, err
	}
	for i := range live {
		ses, err := live[i].session()
		if err != nil {
			return nil, err
		}
		ses.Ended, ses.Reason = at, audit.ReasonRevoked
		if ok, err = s.End(ctx, ses.ID, at, ses.Reason); err != nil {
			return nil, err
		}
		if ok {
			ended = append(ended, ses)
		}
	}
	return ended, nil
}

// OfferTOTP implements session.Store.
func (s *Store) OfferTOTP(ctx context.Context, tenant, userID string, cell []byte) error {
	ok, err := s.update(ctx, "offer TOTP", tenant, userID, map[string]any{"totp_next": cell}, "")
	if err == nil && !ok { // MariaDB counts no row where nothing changed
		_, err = s.Account(ctx, tenant, userID)
	}
	return err
}

// ConfirmTOTP implements session.Store.
func (s *Store) ConfirmTOTP(ctx context.Context, tenant, userID string, cell []byte, step int64) (bool, error) {
	if len(cell) == 0 {
		return false, nil
	}
	return s.update(ctx, "confirm TOTP", tenant, userID,
		map[string]any{"totp": cell, "totp_next": nil, "totp_step": step}, "totp_next = ?", cell)
}

// UseTOTPStep implements session.Store.
func (s *Store) UseTOTPStep(ctx context.Context, tenant, userID string, cell []byte, step int64) (bool, error) {
	if len(cell) == 0 {
		return false, nil
	}
	return s.update(ctx, "use TOTP step", tenant, userID,
		map[string]any{"totp_step": step}, "totp = ? AND totp_step < ?", cell, step)
}

// CreatePending implements session.Store.
func (s *Store) CreatePending(ctx context.Context, p session.Pending) error {
	_, err := s.exec(ctx, "create pending sign-in", func(db *gorm.DB) *gorm.DB {
		return db.Create(&pendingRow{
			ID: table.ID(p.ID.String()), Tenant: table.ID(p.Tenant), UserID: table.ID(p.UserID), Epoch: p.Epoch, Tries: p.Tries, Expires: table.Nanos(p.Expires),
		})
	})
	return err
}

// TryPending implements session.Store.
func (s *Store) TryPending(ctx context.Context, id session.ID, limit int, at time.Time) (p session.Pending, err error) {
	const what = "try pending sign-in"
	err = s.transaction(ctx, what, func(in *Store) error {
		ok, err := in.exec(ctx, what, func(db *gorm.DB) *gorm.DB {
			return db.Model(&pendingRow{}).Where("id = ? AND tries < ? AND expires > ?", table.ID(id.String()), limit, table.Nanos(at)).
				Update("tries", gorm.Expr("tries + 1"))
		})
		if err != nil {
			return err
		}
		if !ok {
			return session.ErrNotFound
		}
		r, ok, err := first[pendingRow](in.db.Where("id = ?", table.ID(id.String())), what)
		if err != nil {
			return err
		}
		if !ok {
			return session.ErrNotFound
		}
		p, err = r.pending()
		return err
	})
	return p, err
}

// TakePending implements session.Store.
func (s *Store) TakePending(ctx context.Context, id session.ID) (bool, error) {
	return s.exec(ctx, "take pending sign-in", func(db *gorm.DB) *gorm.DB {
		return db.Where("id = ?", table.ID(id.String())).Delete(&pendingRow{})
	})
}

// CreateSession implements session.Store: one statement that reads the user
// and inserts.
func (s *Store) CreateSession(ctx context.Context, n session.Session) error {
	ok, err := s.exec(ctx, "create session", func(db *gorm.DB) *gorm.DB {
		return db.Exec(`INSERT INTO session_sessions
		(id, tenant, user_id, kind, epoch, assurance, auth_time, created, last_seen, idle, expires, addr, ended, reason, owed)
		SELECT ?, tenant, id, kind, epoch, ?, ?, ?, ?, ?, ?, ?, 0, '', 0
		FROM session_users WHERE tenant = ? AND id = ? AND epoch = ? AND disabled = ?`,
			table.ID(n.ID.String()), n.Assurance, table.Nanos(n.AuthTime), table.Nanos(n.Created), table.Nanos(n.LastSeen), int64(n.Idle), table.Nanos(n.Expires), addrText(n.Addr),
			table.ID(n.Tenant), table.ID(n.UserID), n.Epoch, false)
	})
	if err == nil && !ok {
		return session.ErrStale
	}
	return err
}

// Session implements session.Store.
func (s *Store) Session(ctx context.Context, id session.ID) (session.Session, session.User, error) {
	type joined struct {
		Session sessionRow `gorm:"embedded"`
		User    userRow    `gorm:"embedded;embeddedPrefix:u_"`
	}
	r, ok, err := first[joined](s.db.WithContext(ctx).Table("session_sessions AS s").
		Select(`s.*, u.tenant AS u_tenant, u.id AS u_id, u.kind AS u_kind, u.login AS u_login, u.roles AS u_roles,
			u.disabled AS u_disabled, u.epoch AS u_epoch, u.created AS u_created`).
		Joins("JOIN session_users AS u ON u.tenant = s.tenant AND u.id = s.user_id").
		Where("s.id = ?", table.ID(id.String())), "read session")
	if err != nil {
		return session.Session{}, session.User{}, err
	}
	if !ok {
		return session.Session{}, session.User{}, session.ErrNotFound
	}
	ses, err := r.Session.session()
	return ses, r.User.user(), err
}

// alive is the condition of a session that is within its limits; it takes the
// time twice.
const alive = "ended = 0 AND expires > ? AND last_seen + idle > ?"

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, id session.ID, at time.Time) (bool, error) {
	now := table.Nanos(at)
	ok, err := s.exec(ctx, "touch session", func(db *gorm.DB) *gorm.DB {
		return db.Model(&sessionRow{}).Where("id = ? AND last_seen < ? AND "+alive, table.ID(id.String()), now, now, now).Update("last_seen", now)
	})
	if ok || err != nil {
		return ok, err
	}
	// Nothing to move: it is over, or another request was later.
	_, ok, err = first[sessionRow](s.db.WithContext(ctx).Where("id = ? AND "+alive, table.ID(id.String()), now, now), "touch session")
	return ok, err
}

// End implements session.Store.
func (s *Store) End(ctx context.Context, id session.ID, at time.Time, reason audit.Reason) (bool, error) {
	return s.exec(ctx, "end session", func(db *gorm.DB) *gorm.DB {
		return db.Model(&sessionRow{}).Where("id = ? AND ended = 0", table.ID(id.String())).
			Updates(map[string]any{"ended": table.Nanos(at), "reason": string(reason), "owed": table.Nanos(at)})
	})
}

// Settle implements session.Store.
func (s *Store) Settle(ctx context.Context, id session.ID) error {
	_, err := s.exec(ctx, "settle session", func(db *gorm.DB) *gorm.DB {
		return db.Model(&sessionRow{}).Where("id = ? AND ended <> 0", table.ID(id.String())).Update("owed", 0)
	})
	return err
}

// Reserve implements session.Store.
func (s *Store) Reserve(ctx context.Context, lane session.ID, r session.Rate, at time.Time) (time.Duration, error) {
	const what = "reserve a try"
	now, every := table.Nanos(at), int64(r.Every)
	room := now + int64(r.Burst-1)*every
	for {
		ok, err := s.exec(ctx, what, func(db *gorm.DB) *gorm.DB {
			return db.Model(&laneRow{}).Where("id = ? AND full_until <= ?", table.ID(lane.String()), room).
				Update("full_until", gorm.Expr("CASE WHEN full_until < ? THEN ? ELSE full_until + ? END", now, now+every, every))
		})
		if ok || err != nil {
			return 0, err
		}
		ok, err = s.exec(ctx, what, func(db *gorm.DB) *gorm.DB {
			return db.Clauses(clause.OnConflict{DoNothing: true}).Create(&laneRow{ID: table.ID(lane.String()), Full: now + every})
		})
		if ok || err != nil {
			return 0, err
		}
		l, ok, err := first[laneRow](s.db.WithContext(ctx).Where("id = ?", table.ID(lane.String())), what)
		if err != nil {
			return 0, err
		}
		if ok && l.Full > room {
			return time.Duration(l.Full - room), nil
		}
		// A sweep removed the lane, or a refund made room: once more.
	}
}

// Refund implements session.Store.
func (s *Store) Refund(ctx context.Context, lane session.ID, r session.Rate) error {
	_, err := s.exec(ctx, "refund a try", func(db *gorm.DB) *gorm.DB {
		return db.Model(&laneRow{}).Where("id = ?", table.ID(lane.String())).Update("full_until", gorm.Expr("full_until - ?", int64(r.Every)))
	})
	return err
}

// window is how long refusals of one lane are summed up.
const window = time.Minute

// Refuse implements session.Store.
func (s *Store) Refuse(ctx context.Context, lane session.ID, who session.Refusal, at time.Time) (count int, err error) {
	const what = "count a refusal"
	err = s.transaction(ctx, what, func(in *Store) error {
		count = 0
		row := laneRow{ID: table.ID(lane.String())}
		if err := in.db.Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
			return err
		}
		// The update locks the row until the transaction ends.
		mine := in.db.Model(&laneRow{}).Where("id = ?", table.ID(lane.String())).Session(&gorm.Session{})
		if err := mine.Updates(map[string]any{
			"refused": gorm.Expr("refused + 1"), "tenant": who.Tenant, "user_id": who.UserID, "kind": string(who.Kind), "addr": addrText(who.Addr),
		}).Error; err != nil {
			return err
		}
		l, ok, err := first[laneRow](in.db.Where("id = ?", table.ID(lane.String())), what)
		if err != nil || !ok || l.Since > table.Nanos(at.Add(-window)) {
			return err
		}
		count = l.Refused
		return mine.Updates(map[string]any{"refused": 0, "since": table.Nanos(at)}).Error
	})
	if err != nil {
		return 0, err
	}
	return count, nil
}

const (
	owedAgain = time.Minute    // after which an unsettled end is handed out again
	keepEnded = 24 * time.Hour // for which a settled session is kept
)

// Sweep implements session.Store. Each row is claimed by a conditional
// statement of its own, so sweeps on several nodes do not wait for each other.
func (s *Store) Sweep(ctx context.Context, at time.Time, limit int) (session.Due, error) {
	var due session.Due
	var err error
	for _, part := range []func() error{
		func() error { due.Sessions, err = s.sweepSessions(ctx, at, limit); return err },
		func() error { due.Pending, err = s.sweepPending(ctx, at, limit); return err },
		func() error { due.Refusals, err = s.sweepLanes(ctx, at, limit); return err },
	} {
		// What was claimed so far is returned with the error, or it would be lost.
		if err := part(); err != nil {
			return due, err
		}
	}
	return due, nil
}

func (s *Store) sweepSessions(ctx context.Context, at time.Time, limit int) ([]session.Session, error) {
	const what = "sweep"
	now := table.Nanos(at)
	db := s.db.WithContext(ctx)
	over, err := some[sessionRow](db.Where("ended = 0 AND (expires <= ? OR last_seen + idle <= ?)", now, now), limit, what)
	if err != nil {
		return nil, err
	}
	var out []session.Session
	for i := range over {
		ses, err := over[i].session()
		if err != nil {
			return out, err
		}
		ses.Ended, ses.Reason = at, audit.ReasonIdle
		if !at.Before(ses.Expires) {
			ses.Reason = audit.ReasonAbsolute
		}
		// Unlike End this asks again whether it is over: a touch may have come
		// in between.
		ok, err := s.exec(ctx, what, func(db *gorm.DB) *gorm.DB {
			return db.Model(&sessionRow{}).Where("id = ? AND ended = 0 AND (expires <= ? OR last_seen + idle <= ?)", over[i].ID, now, now).
				Updates(map[string]any{"ended": now, "reason": string(ses.Reason), "owed": now})
		})
		if err != nil {
			return out, err
		}
		if ok {
			out = append(out, ses)
		}
	}
	owed, err := some[sessionRow](db.Where("ended <> 0 AND owed <> 0 AND owed <= ?", table.Nanos(at.Add(-owedAgain))), limit, what)
	if err != nil {
		return out, err
	}
	for i := range owed {
		ok, err := s.exec(ctx, what, func(db *gorm.DB) *gorm.DB {
			return db.Model(&sessionRow{}).Where("id = ? AND owed = ?", owed[i].ID, owed[i].Owed).Update("owed", now)
		})
		if err != nil {
			return out, err
		}
		if !ok {
			continue
		}
		ses, err := owed[i].session()
		if err != nil {
			return out, err
		}
		out = append(out, ses)
	}
	_, err = s.exec(ctx, what, func(db *gorm.DB) *gorm.DB {
		return db.Where("ended <> 0 AND owed = 0 AND ended < ?", table.Nanos(at.Add(-keepEnded))).Delete(&sessionRow{})
	})
	return out, err
}

func (s *Store) sweepPending(ctx context.Context, at time.Time, limit int) ([]session.Pending, error) {
	rows, err := some[pendingRow](s.db.WithContext(ctx).Where("expires <= ?", table.Nanos(at)), limit, "sweep")
	if err != nil {
		return nil, err
	}
	var out []session.Pending
	for i := range rows {
		p, err := rows[i].pending()
		if err != nil {
			return out, err
		}
		ok, err := s.TakePending(ctx, p.ID)
		if err != nil {
			return out, err
		}
		if ok {
			out = append(out, p)
		}
	}
	return out, nil
}

func (s *Store) sweepLanes(ctx context.Context, at time.Time, limit int) ([]session.Refusal, error) {
	const what = "sweep"
	quietSince := table.Nanos(at.Add(-window))
	rows, err := some[laneRow](s.db.WithContext(ctx).Where("refused > 0 AND since <= ?", quietSince), limit, what)
	if err != nil {
		return nil, err
	}
	var out []session.Refusal
	for i := range rows {
		l := &rows[i]
		// One more refusal in between leaves the row to the next sweep.
		ok, err := s.exec(ctx, what, func(db *gorm.DB) *gorm.DB {
			return db.Model(&laneRow{}).Where("id = ? AND refused = ? AND since = ?", l.ID, l.Refused, l.Since).
				Updates(map[string]any{"refused": 0, "since": table.Nanos(at)})
		})
		if err != nil {
			return out, err
		}
		if ok {
			out = append(out, session.Refusal{Tenant: l.Tenant, UserID: l.UserID, Kind: access.Kind(l.Kind), Addr: addrFrom(l.Addr), Count: l.Refused})
		}
	}
	_, err = s.exec(ctx, what, func(db *gorm.DB) *gorm.DB {
		return db.Where("refused = 0 AND since <= ? AND full_until <= ?", quietSince, table.Nanos(at)).Delete(&laneRow{})
	})
	return out, err
}
