// SPDX-License-Identifier: Apache-2.0

// Package accesstest is for the tests of apps and of this SDK: principals
// ([As]), authorizers that allow, deny or fail as told ([Allow], [Deny],
// [Fake]), and the contract that every [access.Authorizer] keeps
// ([TestAuthorizer]). [TestPolicy] holds a policy against a table of who may do
// what, and [CheckRoutes] asks the whole handler of an app for what it must refuse.
package accesstest
