//go:build never

package keepdeps

import (
	_ "github.com/casbin/casbin/v2"
	_ "github.com/glebarez/go-sqlite"
	_ "github.com/glebarez/sqlite"
	_ "github.com/google/uuid"
	_ "github.com/pquerna/otp/totp"
	_ "github.com/tink-crypto/tink-go/v2/aead"
	_ "github.com/transparency-dev/formats/log"
	_ "github.com/transparency-dev/merkle/compact"
	_ "go.uber.org/zap"
	_ "golang.org/x/crypto/argon2"
	_ "golang.org/x/mod/sumdb/note"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/text/unicode/norm"
	_ "gorm.io/driver/mysql"
	_ "gorm.io/driver/postgres"
	_ "gorm.io/gorm"
)
