package unifiedpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

var (
	errKeys     = errors.New("unifiedpush: subscription keys are not p256dh|auth")
	errTooLarge = errors.New("unifiedpush: message too large")
)

// An encrypted body is one record of RFC 8188 whose key comes from RFC 8291:
//
//	salt (16) | record size (4) | length of key id (1) = 65 | key id (65): the sender's public key | record
//
// The record is the plaintext, 0x02, zeros for padding, and a tag of 16 bytes.
const (
	saltLen    = 16
	pointLen   = 65 // uncompressed point on P-256
	authLen    = 16
	headerLen  = saltLen + 4 + 1 + pointLen
	tagLen     = 16
	overhead   = headerLen + 1 + tagLen
	recordSize = maxBody // stated; RFC 8291 §4 wants it to be more than the one record has
	bucket     = 512     // bodies are padded to a multiple of this
)

// receiverKeys are a subscription's keys (RFC 8291 §§2, 3.2).
type receiverKeys struct {
	public *ecdh.PublicKey
	auth   []byte
}

// parseKeys reads the subscription's keys from a topic. The result is nil for a topic that has none.
func parseKeys(topic string) (*receiverKeys, error) {
	p256dh, auth, ok := strings.Cut(topic, "|")
	if !ok {
		return nil, nil
	}
	point, err := decode64(p256dh)
	if err != nil {
		return nil, errKeys
	}
	secret, err := decode64(auth)
	if err != nil || len(secret) != authLen {
		return nil, errKeys
	}
	public, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, errKeys
	}
	return &receiverKeys{public, secret}, nil
}

// encrypt makes a body that only the receiver can read. The sender's key pair is used once (RFC 8291 §3.1).
func (k *receiverKeys) encrypt(plain []byte) ([]byte, error) {
	if len(plain)+overhead > maxBody {
		return nil, errTooLarge
	}
	sender, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("unifiedpush: %w", err)
	}
	var salt [saltLen]byte
	rand.Read(salt[:])
	padding := (bucket - (len(plain)+overhead)%bucket) % bucket
	return k.seal(plain, padding, sender, salt)
}

// seal is RFC 8291 §3.4, in its order and with its names.
func (k *receiverKeys) seal(plain []byte, padding int, sender *ecdh.PrivateKey, salt [saltLen]byte) ([]byte, error) {
	asPublic := sender.PublicKey().Bytes()
	ecdhSecret, err := sender.ECDH(k.public)
	if err != nil {
		return nil, fmt.Errorf("unifiedpush: %w", err)
	}
	keyInfo := "WebPush: info\x00" + string(k.public.Bytes()) + string(asPublic)
	ikm, err := hkdf.Key(sha256.New, ecdhSecret, k.auth, keyInfo, 32)
	if err != nil {
		return nil, fmt.Errorf("unifiedpush: %w", err)
	}
	gcm, nonce, err := contentKey(ikm, salt)
	if err != nil {
		return nil, fmt.Errorf("unifiedpush: %w", err)
	}
	out := make([]byte, 0, len(plain)+padding+overhead)
	out = append(out, salt[:]...)
	out = binary.BigEndian.AppendUint32(out, recordSize)
	out = append(out, pointLen)
	out = append(out, asPublic...)
	record := out[headerLen : headerLen+len(plain)+1+padding]
	copy(record, plain)
	record[len(plain)] = 2 // the last record's delimiter; zeros follow
	return gcm.Seal(out, nonce, record, nil), nil
}

// contentKey derives the cipher and its nonce for the first and only record (RFC 8188 §§2.2, 2.3).
func contentKey(ikm []byte, salt [saltLen]byte) (cipher.AEAD, []byte, error) {
	prk, err := hkdf.Extract(sha256.New, ikm, salt[:])
	if err != nil {
		return nil, nil, err
	}
	cek, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, nil, err
	}
	nonce, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, nil, err
	}
	gcm, err := cipher.NewGCM(block)
	return gcm, nonce, err
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode64 accepts both alphabets, padded or not: clients of different ages send all four.
func decode64(s string) ([]byte, error) {
	s = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "=")
	return base64.RawURLEncoding.DecodeString(s)
}
