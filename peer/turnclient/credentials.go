package turnclient

import (
	"bytes"
	"sync"

	"github.com/pion/stun/v3"
)

// maxText bounds realm and nonce, in bytes (RFC 8489 §14.9, §14.10).
const maxText = 763

// maxAttempts is how often a request is sent with new realm or nonce: the first without credentials, then Jami's three.
const maxAttempts = 4

// credentials are long-term ones (RFC 8489 §9.2). They outlive the connection they were challenged on: data connections use them too.
type credentials struct {
	username, password string

	mu    sync.Mutex // guards what follows
	realm []byte
	nonce []byte
	key   stun.MessageIntegrity // nil before the first challenge
}

// sign adds credentials to a request, if there has been a challenge, and returns the key that answers are signed with.
func (c *credentials) sign(m *stun.Message) stun.MessageIntegrity {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key == nil {
		return nil
	}
	m.Add(stun.AttrUsername, []byte(c.username))
	m.Add(stun.AttrRealm, c.realm)
	m.Add(stun.AttrNonce, c.nonce)
	_ = c.key.AddTo(m) // fails behind a fingerprint only
	return c.key
}

// challenged takes realm and nonce from an error answer to a request that was signed with key, or not at all. It reports whether to try
// again: 401 to credentials for the same realm says that they are wrong (RFC 8489 §9.2.5).
func (c *credentials) challenged(m *stun.Message, code int, key stun.MessageIntegrity) bool {
	realm, _ := m.Get(stun.AttrRealm)
	nonce, _ := m.Get(stun.AttrNonce)
	if c.username == "" || len(realm) == 0 || len(nonce) == 0 || len(realm) > maxText || len(nonce) > maxText {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case code == int(stun.CodeStaleNonce) && key != nil:
	case code == int(stun.CodeUnauthorized) && (key == nil || !bytes.Equal(realm, c.realm)):
	default:
		return false
	}
	c.realm, c.nonce = bytes.Clone(realm), bytes.Clone(nonce)
	c.key = stun.NewLongTermIntegrity(c.username, string(realm), c.password)
	return true
}

// authentic reports whether an answer may be believed to a request signed with key. The codes listed are of answers that a server makes
// before it has found out who asks; pjnath takes the same ones, and 441, which coturn 4.6.1 does not sign, is added.
func authentic(m *stun.Message, key stun.MessageIntegrity) bool {
	if key == nil || key.Check(m) == nil {
		return true
	}
	return m.Type.Class == stun.ClassErrorResponse && hasCode(errorOf(m), stun.CodeBadRequest, stun.CodeUnauthorized,
		stun.CodeUnknownAttribute, stun.CodeStaleNonce, stun.CodeWrongCredentials)
}
