package credential

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// SharedSecrets are the secrets with which time-limited credentials are made; several, so that one can be rotated. The user name is
// "<expiry>" or "<expiry>:<anything>", the expiry in seconds since 1970; the password is base64(HMAC-SHA1(secret, user name)).
type SharedSecrets []string

// Password returns the password that belongs to a user name under secret.
func Password(secret, user string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(user))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Expiry returns the time until which a user name of this form is good, and whether it has the form.
func Expiry(user string) (time.Time, bool) {
	digits, _, _ := strings.Cut(user, ":")
	if len(digits) == 0 || len(digits) > 12 { // twelve digits reach past the year 30000
		return time.Time{}, false
	}
	seconds, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// keys appends the key of user under every secret.
func (s SharedSecrets) keys(dst []Key, user, realm string) []Key {
	for _, secret := range s {
		dst = append(dst, LongTermKey(user, realm, Password(secret, user)))
	}
	return dst
}
