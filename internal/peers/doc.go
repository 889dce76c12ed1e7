// SPDX-License-Identifier: Apache-2.0

// Command peers measures the SDK against the limit under it and against other
// projects. It is a module of its own, so that what it compares with never
// enters a user's dependencies.
package main

func main() {}
