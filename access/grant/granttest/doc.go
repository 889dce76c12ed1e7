// SPDX-License-Identifier: Apache-2.0

// Package granttest holds the contracts of package grant: that of every
// [grant.Store] ([TestStore]), and what a [grant.Desk] on it lets nobody do
// ([TestDesk]).
package granttest
