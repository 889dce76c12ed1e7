// SPDX-License-Identifier: Apache-2.0

package crypto

// NewKey makes a Key of raw, a copy of which is cleared: tests give one key's
// bytes to two places, so that only the associated data tells them apart.
func NewKey(raw []byte, tenant, subject string, version uint32) (*Key, error) {
	return newKey(append([]byte(nil), raw...), tenant, subject, version)
}

// UnwrapTenantKey is what a keyring does with a tenant's row.
var UnwrapTenantKey = unwrapTenantKey
