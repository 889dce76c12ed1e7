// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/part164/part164/access"
)

// line is the JSON of an event.
type line struct {
	Seq      uint64         `json:"seq"`
	Time     time.Time      `json:"time"`
	Batch    *uint64        `json:"batch"`
	Part     int            `json:"part"`
	Parts    int            `json:"parts"`
	Type     Type           `json:"type"`
	Attempt  string         `json:"attempt"`
	Outcome  Outcome        `json:"outcome"`
	Reason   Reason         `json:"reason"`
	Action   access.Action  `json:"action"`
	Decision string         `json:"decision"`
	Citation string         `json:"citation"`
	Node     string         `json:"node"`
	Actor    lineActor      `json:"actor"`
	Purpose  access.Purpose `json:"purpose"`
	Count    int            `json:"count"`
	Objects  []lineObjects  `json:"objects"`
}

type lineActor struct {
	ID            string      `json:"id"`
	Tenant        string      `json:"tenant"`
	Kind          access.Kind `json:"kind"`
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

// decode returns the event of a line of writer's journal.
func decode(writer string, text []byte) (Stored, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return Stored{}, fmt.Errorf("it is not the JSON of an event: %w", err)
	}
	s := Stored{
		ID: eventID(writer, l.Seq), Seq: l.Seq, Time: l.Time, Type: l.Type, Outcome: l.Outcome, Reason: l.Reason,
		Action: l.Action, Decision: l.Decision, Citation: l.Citation, Purpose: l.Purpose, Count: l.Count,
		Attempt: l.Attempt, Node: l.Node, Part: l.Part, Parts: l.Parts,
		Actor: access.Principal{
			ID: l.Actor.ID, Tenant: l.Actor.Tenant, Kind: l.Actor.Kind, Roles: l.Actor.Roles,
			Session: l.Actor.Session, Assurance: l.Actor.Assurance, AuthTime: l.Actor.Authenticated,
		},
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
