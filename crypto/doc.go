// SPDX-License-Identifier: Apache-2.0

// Package crypto seals single values, each under the key of the person it is
// about.
package crypto
