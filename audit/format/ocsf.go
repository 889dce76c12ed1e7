// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/hex"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Classes and values of OCSF 1.5 (schema.ocsf.io; github.com/ocsf/ocsf-schema:
// events/application/api_activity and datastore_activity, events/iam/authentication
// and user_access, objects/actor, user, network_endpoint, fingerprint). class_uid
// / 1000 is the category; type_uid is class_uid * 100 + activity_id.
const (
	ocsfVersion = "1.5.0"

	classAuthentication = 3002
	classUserAccess     = 3005
	classAPI            = 6003
	classDatastore      = 6005

	other      = 99 // of every enumeration; its caption is then the source's own
	sha256Hash = 3
)

type ocsfEntity struct {
	UID  string `json:"uid,omitempty"`
	Name string `json:"name,omitempty"`
	Type string `json:"type,omitempty"`
}

type ocsfUser struct {
	UID    string       `json:"uid"`
	TypeID int          `json:"type_id"`
	Type   string       `json:"type,omitempty"`
	Groups []ocsfEntity `json:"groups,omitempty"`
	Org    *ocsfEntity  `json:"org,omitempty"`
}

type ocsfActor struct {
	User    *ocsfUser   `json:"user,omitempty"`
	Session *ocsfEntity `json:"session,omitempty"`
	AppName string      `json:"app_name,omitempty"`
}

type ocsfEndpoint struct {
	IP      string `json:"ip,omitempty"`
	UID     string `json:"uid,omitempty"`
	Service string `json:"svc_name,omitempty"`
}

type ocsfProduct struct {
	Name   string `json:"name"`
	Vendor string `json:"vendor_name"`
}

type ocsfMetadata struct {
	Version     string      `json:"version"`
	Product     ocsfProduct `json:"product"`
	UID         string      `json:"uid"`
	Code        string      `json:"event_code"`
	Log         string      `json:"log_name"`
	Sequence    uint64      `json:"sequence"`
	Tenant      string      `json:"tenant_uid,omitempty"`
	Correlation string      `json:"correlation_uid,omitempty"`
}

type ocsfHash struct {
	Algorithm   string `json:"algorithm"`
	AlgorithmID int    `json:"algorithm_id"`
	Value       string `json:"value"`
}

type ocsfAPI struct {
	Operation string     `json:"operation"`
	Service   ocsfEntity `json:"service"`
}

type ocsfDisclosure struct {
	Basis     string `json:"basis"`
	Recipient string `json:"recipient"`
	Protocol  string `json:"protocol,omitempty"`
	Frequency string `json:"frequency,omitempty"`
}

// ocsfDetail is what OCSF has no attribute for.
type ocsfDetail struct {
	Purpose  access.Purpose `json:"purpose_of_use,omitempty"`
	Decision string         `json:"decision,omitempty"`
	Citation string         `json:"citation,omitempty"`
	Batch    string         `json:"batch,omitempty"`
	Part     int            `json:"part,omitempty"`
	Parts    int            `json:"parts,omitempty"`
	Patients []string       `json:"patients,omitempty"`
	Records  []string       `json:"records,omitempty"`
	Denied   []string       `json:"denied_records,omitempty"`
	Types    []string       `json:"resource_types,omitempty"`
	Fields   []string       `json:"fields,omitempty"`
	Count    int            `json:"count,omitempty"`

	Code       string          `json:"code,omitempty"`
	About      string          `json:"about,omitempty"`
	Rule       string          `json:"rule,omitempty"`
	Grant      string          `json:"grant,omitempty"`
	Role       string          `json:"role,omitempty"`
	User       string          `json:"user,omitempty"`
	OnBehalf   string          `json:"on_behalf_of,omitempty"`
	Attempt    string          `json:"attempt,omitempty"`
	Since      string          `json:"since,omitempty"`
	Until      string          `json:"until,omitempty"`
	Node       string          `json:"node,omitempty"`
	Root       string          `json:"root,omitempty"`
	Disclosure *ocsfDisclosure `json:"disclosure,omitempty"`
	Commitment string          `json:"commitment,omitempty"` // to the sealed detail
}

type ocsfEvent struct {
	ActivityID   int          `json:"activity_id"`
	ActivityName string       `json:"activity_name"`
	CategoryUID  int          `json:"category_uid"`
	ClassUID     int          `json:"class_uid"`
	TypeUID      int          `json:"type_uid"`
	SeverityID   int          `json:"severity_id"`
	StatusID     int          `json:"status_id"`
	Status       string       `json:"status"`
	StatusCode   string       `json:"status_code,omitempty"`
	Time         int64        `json:"time"` // milliseconds since 1970
	Metadata     ocsfMetadata `json:"metadata"`
	Actor        ocsfActor    `json:"actor"`
	User         *ocsfUser    `json:"user,omitempty"`
	API          *ocsfAPI     `json:"api,omitempty"`
	Privileges   []string     `json:"privileges,omitempty"`
	Table        *ocsfEntity  `json:"table,omitempty"`
	StoreTypeID  int          `json:"type_id,omitempty"` // of a datastore
	StoreType    string       `json:"type,omitempty"`
	Resources    []ocsfEntity `json:"resources,omitempty"`
	Source       ocsfEndpoint `json:"src_endpoint"`
	Destination  ocsfEndpoint `json:"dst_endpoint"`
	Service      *ocsfEntity  `json:"service,omitempty"`
	Hash         *ocsfHash    `json:"raw_data_hash,omitempty"`
	Unmapped     ocsfDetail   `json:"unmapped"`
}

// ocsfClass returns the class and activity of the line.
func ocsfClass(l *audit.Line) (class, activity int, name string) {
	switch l.Type {
	case audit.Revealed, audit.Fetched, audit.Checked:
		return classDatastore, 1, "Read"
	case audit.RevealFailed:
		return classDatastore, 10, "Decrypt"
	case audit.Searched:
		return classDatastore, 4, "Query"
	case audit.WriteAttempt:
		switch l.Action {
		case access.Create:
			return classDatastore, 6, "Create"
		case access.Delete, access.Shred:
			return classDatastore, 7, "Delete"
		}
		return classDatastore, 2, "Update"
	case audit.Merged:
		return classDatastore, 2, "Update"
	case audit.Committed, audit.RolledBack, audit.OutboxRefused:
		return classDatastore, 5, "Write"
	case audit.Sealed:
		return classDatastore, 9, "Encrypt"
	case audit.Shredded:
		return classDatastore, 7, "Delete"
	case audit.Outside, audit.Restored, audit.Disclosed:
		return classDatastore, other, string(l.Type)
	case audit.SignIn, audit.SignInFailed, audit.SignInLocked:
		return classAuthentication, 1, "Logon"
	case audit.SessionEnded:
		return classAuthentication, 2, "Logoff"
	case audit.FactorChanged:
		return classAuthentication, other, string(l.Type)
	case audit.UserChanged:
		if l.Reason == audit.ReasonDisabled || l.Reason == audit.ReasonRevoked {
			return classUserAccess, 2, "Revoke Privileges"
		}
		return classUserAccess, 1, "Assign Privileges"
	case audit.GlassBroken, audit.GrantApproved:
		return classUserAccess, 1, "Assign Privileges"
	case audit.GrantEnded:
		return classUserAccess, 2, "Revoke Privileges"
	case audit.PolicyChanged:
		if l.Action == access.Delete {
			return classUserAccess, 2, "Revoke Privileges"
		}
		return classUserAccess, 1, "Assign Privileges"
	}
	switch l.Action {
	case access.Create:
		return classAPI, 1, "Create"
	case access.Read, access.Search:
		return classAPI, 2, "Read"
	case access.Update:
		return classAPI, 3, "Update"
	case access.Delete, access.Shred:
		return classAPI, 4, "Delete"
	}
	return classAPI, other, string(l.Type)
}

// ocsf makes one event of the line.
func (e Encoder) ocsf(dst []byte, l *audit.Line) ([]byte, error) {
	class, activity, name := ocsfClass(l)
	if name == "" {
		name = "Other"
	}
	out := ocsfEvent{
		ActivityID: activity, ActivityName: name, CategoryUID: class / 1000, ClassUID: class,
		TypeUID: class*100 + activity, SeverityID: 1 + severity(l), StatusID: 1, Status: "Success", StatusCode: string(l.Reason),
		Time: l.Time.UnixMilli(),
		Metadata: ocsfMetadata{
			Version: ocsfVersion, Product: ocsfProduct{"part164", "part164"}, UID: eventID(l), Code: string(l.Type),
			Log: l.Position.Writer, Sequence: l.Seq, Tenant: l.Actor.Tenant, Correlation: correlation(l),
		},
		Source: ocsfEndpoint{Service: "part164"}, Destination: ocsfEndpoint{UID: e.observer(l)},
		Unmapped: ocsfDetail{
			Purpose: l.Purpose, Decision: l.Decision, Citation: l.Citation, Batch: l.Batch, Part: l.Part, Parts: l.Parts,
			Patients: patients(l), Records: records(l), Types: types(l), Fields: fields(l), Count: l.Count,
			Denied: distinct(len(l.Objects), func(i int) string {
				if !l.Objects[i].Denied {
					return ""
				}
				return l.Objects[i].Record
			}),
		},
	}
	d := &out.Unmapped
	d.Grant, d.Role = l.Grant, l.Role
	d.Code, d.About, d.Rule, d.User, d.OnBehalf, d.Attempt = string(l.Code), l.About, l.Rule, l.User, l.Actor.OnBehalf, l.Attempt
	d.Since, d.Until, d.Node, d.Root, d.Commitment = instant(l.Since), instant(l.Until), l.Node, l.Root, l.Detail
	if x := l.Disclosure; x != nil {
		d.Disclosure = &ocsfDisclosure{string(x.Basis), x.Recipient, x.Protocol, string(x.Frequency)}
	}
	if l.Outcome != audit.Success {
		out.StatusID, out.Status = 2, "Failure"
		if l.Outcome == audit.Partial {
			out.StatusID, out.Status = other, string(l.Outcome)
		}
	}
	if l.Leaf != [32]byte{} {
		out.Hash = &ocsfHash{"SHA-256", sha256Hash, hex.EncodeToString(l.Leaf[:])}
	}
	if l.Actor.Addr.IsValid() {
		out.Source = ocsfEndpoint{IP: l.Actor.Addr.String()}
	}
	if l.Actor.ID != "" {
		user := &ocsfUser{UID: l.Actor.ID}
		user.TypeID, user.Type = userType(l.Actor.Kind)
		if l.Actor.Tenant != "" {
			user.Org = &ocsfEntity{UID: l.Actor.Tenant}
		}
		for _, r := range l.Actor.Roles {
			user.Groups = append(user.Groups, ocsfEntity{Name: r})
		}
		out.Actor.User = user
	} else {
		out.Actor.AppName = "part164"
	}
	if l.Actor.Session != "" {
		out.Actor.Session = &ocsfEntity{UID: l.Actor.Session}
	}
	switch class {
	case classAPI:
		operation := string(l.Type)
		if operation == "" {
			operation = "other"
		}
		out.API = &ocsfAPI{operation, ocsfEntity{Name: "part164"}}
		for _, r := range records(l) {
			out.Resources = append(out.Resources, ocsfEntity{UID: r})
		}
	case classDatastore:
		out.Table = &ocsfEntity{Name: "unknown"}
		if t := types(l); len(t) > 0 {
			out.Table.Name = t[0]
		}
		out.StoreTypeID, out.StoreType = 3, "Table"
	default:
		out.User = &ocsfUser{UID: "unknown"}
		if out.Actor.User != nil {
			out.User = out.Actor.User
		}
		if r := records(l); class == classUserAccess && len(r) > 0 {
			out.User = &ocsfUser{UID: r[0]}
		}
		if class == classUserAccess && l.Grant != "" {
			out.User = &ocsfUser{UID: l.User}
			out.User.TypeID, out.User.Type = userType(l.UserKind)
		}
		if class == classUserAccess { // required by some releases of the schema; the journal names none
			out.Privileges = []string{"unknown"}
			if l.Role != "" {
				out.Privileges[0] = l.Role
			}
		}
		out.Service = &ocsfEntity{Name: "part164"}
	}
	return appendJSON(dst, out)
}

// userType returns the type of a user and its caption.
func userType(k access.Kind) (int, string) {
	switch k {
	case access.Human:
		return 1, "User"
	case access.Service:
		return 4, "Service"
	case "":
		return 0, "Unknown"
	}
	return other, string(k)
}

// correlation is what ties the event to others.
func correlation(l *audit.Line) string {
	for _, id := range [...]string{l.Request, l.Attempt, l.About, l.Batch, l.Grant} {
		if id != "" {
			return id
		}
	}
	return ""
}

// severity is 0 for what is ordinary, 1 low, 2 medium, 3 high.
func severity(l *audit.Line) int {
	switch l.Type {
	case audit.RevealFailed, audit.OutboxRefused, audit.Restored, audit.Outside, audit.Alerted, audit.Gap, audit.ClockOff, audit.PolicyRefused, audit.GlassBroken:
		return 3
	case audit.Denied, audit.SignInLocked, audit.PolicyChanged, audit.GrantApproved, audit.Deviation, audit.Shredded, audit.Recovered, audit.Parked, audit.Adopted,
		audit.Purged, audit.Erased, audit.DetailOpened, audit.JournalKeyRotated:
		return 2
	case audit.SignInFailed, audit.UserChanged, audit.FactorChanged, audit.RolledBack, audit.KeyRotated,
		audit.GrantRequested, audit.GrantRefused, audit.GrantEnded, audit.GrantReviewed:
		return 1
	}
	if breakGlass(l) {
		return 3
	}
	if l.Type == audit.RelationChanged || l.Type == audit.DirectiveChanged || l.Type == audit.RecipientsLoaded {
		return 1
	}
	return 0
}
