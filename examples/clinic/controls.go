// SPDX-License-Identifier: Apache-2.0

//go:build !(break_import || break_password || break_factor || break_totp || break_replay || break_signin || break_cookie || break_cache || break_origin || break_search || break_create || break_mask || break_withhold || break_purpose || break_access || break_relation || break_oracle || break_glass || break_revoke || break_review || break_edit || break_conflict || break_keep || break_input || break_audit || break_report || break_signout || break_leak || break_journal)

package main

import "net/http"

// The three places at which broken.go breaks a control, to prove that -selfcheck
// would notice. In your copy delete them, with their calls and broken.go.

// sabotage may change the parts of the app before they are put together.
func sabotage(*options, *parts) {}

// tampered may stand before the app.
func (a *app) tampered(h http.Handler) http.Handler { return h }

// closed may look at the data folder after the end.
func closed(options) {}
