// SPDX-License-Identifier: Apache-2.0

//go:build race

package crypto_test

const raceDetector = true // allocates on its own
