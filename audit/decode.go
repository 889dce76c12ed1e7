// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/part164/part164/access"
)

// line is the JSON of an event.
type line struct {
	Seq        uint64          `json:"seq"`
	Sync       bool            `json:"sync"`
	Prev       string          `json:"prev"`
	Time       time.Time       `json:"time"`
	Batch      *uint64         `json:"batch"`
	Part       int             `json:"part"`
	Parts      int             `json:"parts"`
	Type       Type            `json:"type"`
	Attempt    string          `json:"attempt"`
	Key        int             `json:"key"`
	Outcome    Outcome         `json:"outcome"`
	Reason     Reason          `json:"reason"`
	Action     access.Action   `json:"action"`
	Code       access.Code     `json:"code"`
	Decision   string          `json:"decision"`
	Request    string          `json:"request"`
	Citation   string          `json:"citation"`
	About      string          `json:"about"`
	Rule       string          `json:"rule"`
	Grant      string          `json:"grant"`
	Role       string          `json:"role"`
	Root       string          `json:"root"`
	Node       string          `json:"node"`
	User       string          `json:"user"`
	UserKind   access.Kind     `json:"user_kind"`
	Actor      lineActor       `json:"actor"`
	Purpose    access.Purpose  `json:"purpose"`
	Count      int             `json:"count"`
	Since      time.Time       `json:"since"`
	Until      time.Time       `json:"until"`
	Disclosure *lineDisclosure `json:"disclosure"`
	Detail     string          `json:"detail"`
	Purge      *linePurge      `json:"purge"`
	Rotation   *lineRotation   `json:"rotation"`
	Objects    []lineObjects   `json:"objects"`
	Keys       []byte          `json:"keys"` // of a KeysKept: for Restore
	MAC        string          `json:"mac"`
	CRC        string          `json:"crc"`
}

type lineRotation struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type lineDisclosure struct {
	Basis     Basis     `json:"basis"`
	Recipient string    `json:"recipient"`
	Protocol  string    `json:"protocol"`
	Frequency Frequency `json:"frequency"`
}

type lineActor struct {
	ID            string      `json:"id"`
	Tenant        string      `json:"tenant"`
	Kind          access.Kind `json:"kind"`
	Behalf        string      `json:"behalf"`
	BehalfKind    access.Kind `json:"behalf_kind"`
	Roles         []string    `json:"roles"`
	Session       string      `json:"session"`
	Addr          string      `json:"addr"`
	Assurance     int         `json:"assurance"`
	Authenticated time.Time   `json:"authenticated"`
}

type lineObjects struct {
	Type   string    `json:"type"`
	Tenant string    `json:"tenant"`
	Fields []string  `json:"fields"`
	Denied bool      `json:"denied"`
	Refs   []lineRef `json:"refs"`
}

type lineRef struct {
	Record  string   `json:"record"`
	Patient string   `json:"patient"`
	Version int64    `json:"version"`
	Digests []string `json:"digests"`
}

// decode returns the event of a line of writer's journal. A line with a member
// or a type that this release does not know is an error: what a later release
// wrote is not shown with a part of it left out.
func decode(writer string, text []byte) (Stored, error) {
	var l line
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		if json.Unmarshal(text, new(line)) == nil {
			return Stored{}, fmt.Errorf("the event has a member that this release does not know: %w", ErrNewer)
		}
		return Stored{}, errors.New("it is not the JSON of an event")
	}
	if dec.InputOffset() != int64(len(text)) {
		return Stored{}, errors.New("something stands behind the JSON of the event")
	}
	if !l.Type.known() || !l.Reason.known() {
		return Stored{}, fmt.Errorf("this release does not know the event's type or reason: %w", ErrNewer)
	}
	if err := l.check(); err != nil {
		return Stored{}, err
	}
	s := Stored{
		ID: eventID(writer, l.Seq), Seq: l.Seq, Time: l.Time, Type: l.Type, Outcome: l.Outcome, Reason: l.Reason,
		Action: l.Action, Decision: l.Decision, Citation: l.Citation, Purpose: l.Purpose, Count: l.Count,
		Attempt: l.Attempt, Node: l.Node, Part: l.Part, Parts: l.Parts,
		Code: l.Code, Request: l.Request, About: l.About, Rule: l.Rule, Grant: l.Grant, Role: l.Role, User: l.User, UserKind: l.UserKind,
		Since: l.Since, Until: l.Until, Detail: l.Detail, Root: l.Root, KeyVersion: max(1, l.Key),
		Actor: access.Principal{
			ID: l.Actor.ID, Tenant: l.Actor.Tenant, Kind: l.Actor.Kind, Roles: l.Actor.Roles,
			Session: l.Actor.Session, Assurance: l.Actor.Assurance, AuthTime: l.Actor.Authenticated,
			OnBehalf: l.Actor.Behalf, OnBehalfKind: l.Actor.BehalfKind,
		},
	}
	if d := l.Disclosure; d != nil {
		s.Disclosure = &Disclosure{Basis: d.Basis, Recipient: d.Recipient, Protocol: d.Protocol, Frequency: d.Frequency}
	}
	var err error
	if s.Purge, err = l.Purge.record(); err != nil {
		return Stored{}, err
	}
	if r := l.Rotation; r != nil {
		s.Rotation = &Rotation{From: r.From, To: r.To}
	}
	if l.Batch != nil {
		s.Batch = eventID(writer, *l.Batch)
	}
	s.Actor.Addr, _ = netip.ParseAddr(l.Actor.Addr) // a patient's is a pseudonym
	for _, o := range l.Objects {
		tenant := o.Tenant
		if tenant == "" {
			tenant = s.Actor.Tenant
		}
		for _, r := range o.Refs {
			s.Objects = append(s.Objects, Object{
				Type: o.Type, Tenant: tenant, Fields: o.Fields, Denied: o.Denied,
				Record: r.Record, Patient: r.Patient, Version: r.Version, Digests: r.Digests,
			})
		}
	}
	return s, nil
}

// eventID names the line seq of writer's journal among all journals.
func eventID(writer string, seq uint64) string {
	return writer + "." + strconv.FormatUint(seq, 10)
}
