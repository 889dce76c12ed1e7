// SPDX-License-Identifier: Apache-2.0

package step3

import (
	"testing"

	"github.com/part164/part164/storage/storagetest"
)

func TestPatient(t *testing.T) {
	storagetest.CheckModel(t, &Patient{})
}
