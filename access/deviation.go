// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"time"
)

// A Deviation documents why an addressable specification or a safe default of
// the SDK is not followed, as 45 CFR 164.306(d)(3)(ii)(B) asks. Configs take a
// list; each is recorded in the audit trail at Open.
type Deviation struct {
	Citation    string    // such as "164.312(a)(2)(iv)"
	Reason      string    // why it is not reasonable and appropriate here
	Alternative string    // the equivalent measure taken instead
	Owner       string    // who answers for it
	ReviewBy    time.Time // when it is looked at again
}

// Validate names the first missing field.
func (d Deviation) Validate() error {
	switch {
	case d.Citation == "":
		return errors.New("access: Deviation.Citation is empty")
	case d.Reason == "":
		return errors.New("access: Deviation.Reason is empty")
	case d.Alternative == "":
		return errors.New("access: Deviation.Alternative is empty")
	case d.Owner == "":
		return errors.New("access: Deviation.Owner is empty")
	case d.ReviewBy.IsZero():
		return errors.New("access: Deviation.ReviewBy is zero")
	}
	return nil
}
