// SPDX-License-Identifier: Apache-2.0

// Package watchtest is for the tests of apps that use package watch: relations
// that a test sets ([Fake]), the contract of every [watch.Relations]
// ([TestRelations]), and the rules that need sign-ins, emergency access and
// reviews to leave the events that they look for ([TestActs]).
package watchtest
