// SPDX-License-Identifier: Apache-2.0

package httpaccess

import (
	"net/http"

	"github.com/part164/part164/access"
)

// identify gives req an ID where it has none yet.
func (g *Guard) identify(req *http.Request) *http.Request {
	if access.RequestID(req.Context()) != "" {
		return req
	}
	var id string
	if g.cfg.RequestID != nil {
		id = g.cfg.RequestID(req)
	}
	if access.CheckID(id) != nil {
		id = newID()
	}
	return req.WithContext(access.WithRequestID(req.Context(), id))
}
