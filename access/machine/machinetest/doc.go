// SPDX-License-Identifier: Apache-2.0

// Package machinetest is for tests of programs that call: the contract that every
// [machine.Store] keeps ([TestStore]), and a store that fails and is slow as told
// ([Store]).
package machinetest
