package ledger

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// SigningKey is an Ed25519 note key: the log's, or a witness's. Whoever holds
// the log's can show different people different logs, until they compare; he
// cannot forge a registration, since accounts sign those themselves.
type SigningKey struct {
	name    string
	encoded string
	private ed25519.PrivateKey
	vkey    string
	signer  note.Signer
}

// GenerateSigningKey makes a key for the name: the log's origin or the
// witness's name.
func GenerateSigningKey(name string) (SigningKey, error) {
	skey, _, err := note.GenerateKey(nil, name)
	if err != nil {
		return SigningKey{}, fmt.Errorf("ledger: generate key: %w", err)
	}
	return ParseSigningKey(skey)
}

// ParseSigningKey reads the note encoding PRIVATE+KEY+name+hash+base64.
func ParseSigningKey(text string) (SigningKey, error) {
	text = strings.TrimSpace(text)
	signer, err := note.NewSigner(text)
	if err != nil {
		return SigningKey{}, fmt.Errorf("%w: signing key", ErrMalformed)
	}
	// Base64 may hold a plus sign, so the cut is after the fourth, not at the last.
	parts := strings.SplitN(text, "+", 5)
	seed, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return SigningKey{}, fmt.Errorf("%w: signing key", ErrMalformed)
	}
	k := SigningKey{name: signer.Name(), encoded: text, private: ed25519.NewKeyFromSeed(seed[1:]), signer: signer}
	if k.vkey, err = note.NewEd25519VerifierKey(k.name, k.private.Public().(ed25519.PublicKey)); err != nil {
		return SigningKey{}, fmt.Errorf("%w: signing key", ErrMalformed)
	}
	return k, nil
}

// Name returns the key's name.
func (k SigningKey) Name() string { return k.name }

// IsZero reports whether there is no key.
func (k SigningKey) IsZero() bool { return k.private == nil }

// String hides the secret, so that a key never lands in a log.
func (k SigningKey) String() string { return "signing key of " + k.name }

// Encode returns the secret text for the key file.
func (k SigningKey) Encode() string { return k.encoded }

// VKey returns the public verifier key, name+hash+base64.
func (k SigningKey) VKey() string { return k.vkey }

// Signer returns the key as signer of checkpoints.
func (k SigningKey) Signer() note.Signer { return k.signer }

// Cosigner returns the key as witness, signing in cosignature/v1 with the time
// of the call.
func (k SigningKey) Cosigner() (note.Signer, error) {
	return cosig.NewSignerForCosignatureV1(k.encoded)
}

// ParseVerifier reads a verifier key: Ed25519 (type 1), or a witness's
// cosignature/v1 key (types 4 and 6).
func ParseVerifier(vkey string) (note.Verifier, error) {
	v, err := cosig.NewVerifier(strings.TrimSpace(vkey))
	if err != nil {
		return nil, fmt.Errorf("%w: verifier key: %v", ErrMalformed, err)
	}
	return v, nil
}

// ParseWitness reads a witness's key; a plain Ed25519 key is taken as its
// cosignature/v1 form, since witnesses sign in no other.
func ParseWitness(vkey string) (note.Verifier, error) {
	v, err := cosig.NewVerifierForCosignatureV1(strings.TrimSpace(vkey))
	if err != nil {
		return nil, fmt.Errorf("%w: witness key: %v", ErrMalformed, err)
	}
	return v, nil
}

// KeyRing parses verifier keys into one list.
func KeyRing(vkeys ...string) (note.Verifiers, error) {
	list := make([]note.Verifier, len(vkeys))
	for i, k := range vkeys {
		v, err := ParseVerifier(k)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return note.VerifierList(list...), nil
}

// RotationMessage is what both keys sign in a [Key] entry.
func RotationMessage(origin, oldVKey, newVKey string) []byte {
	return []byte("jns/v1/rotate\n" + origin + "\n" + oldVKey + "\n" + newVKey + "\n")
}

// NewKeyEntry makes the entry that hands the log of k over to next.
func NewKeyEntry(k, next SigningKey, ms Millis) *Key {
	msg := RotationMessage(k.name, k.VKey(), next.VKey())
	e := &Key{Millis: ms, VKey: next.VKey()}
	copy(e.Old[:], ed25519.Sign(k.private, msg))
	copy(e.New[:], ed25519.Sign(next.private, msg))
	return e
}

// NewGenesisEntry makes the entry every log begins with: its first key, signed
// by itself, Old all zero.
func NewGenesisEntry(k SigningKey, ms Millis) *Key {
	e := &Key{Millis: ms, VKey: k.VKey()}
	copy(e.New[:], ed25519.Sign(k.private, RotationMessage(k.name, "", e.VKey)))
	return e
}

// Verify checks the hand-over from oldVKey, which is empty for the entry a log
// begins with.
func (e *Key) Verify(origin, oldVKey string) error {
	msg := RotationMessage(origin, oldVKey, e.VKey)
	for _, s := range []struct {
		vkey string
		sig  []byte
	}{{oldVKey, e.Old[:]}, {e.VKey, e.New[:]}} {
		if s.vkey == "" && e.Old == [64]byte{} {
			continue
		}
		v, err := note.NewVerifier(s.vkey)
		if err != nil || v.Name() != origin {
			return fmt.Errorf("%w: key entry names a key that is not the log's", ErrProof)
		}
		if !v.Verify(msg, s.sig) {
			return fmt.Errorf("%w: key entry is not signed by both keys", ErrProof)
		}
	}
	return nil
}
