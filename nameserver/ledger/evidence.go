package ledger

import (
	"crypto/sha256"
	"fmt"
)

// Evidence is what proves a Register entry to anybody: the account key that
// hashes to the address, and its signature over the name. Both are empty for
// entries of other kinds.
type Evidence struct {
	PublicKey []byte // DER SubjectPublicKeyInfo
	Signature []byte
}

// NewRegister makes the log entry and the evidence for r at the time given.
// Only the form of r is checked here, not the signature; see
// [Registration.Verify].
func NewRegister(r Registration, ms Millis) (*Register, Evidence, error) {
	if err := r.checkSizes(); err != nil {
		return nil, Evidence{}, err
	}
	der, form, err := splitKeyText(r.PublicKey)
	if err != nil {
		return nil, Evidence{}, err
	}
	e := &Register{
		Millis: ms, Name: r.Name, Address: r.Address, Owner: r.Owner, Form: form,
		SPKIHash: sha256.Sum256(der), SignatureHash: sha256.Sum256(r.Signature),
	}
	if r.Key != r.Name {
		e.Key = r.Key
	}
	return e, Evidence{PublicKey: der, Signature: r.Signature}, nil
}

// Bound checks that ev is the evidence e commits to, at the cost of two hashes.
func (e *Register) Bound(ev Evidence) error {
	if sha256.Sum256(ev.PublicKey) != e.SPKIHash || sha256.Sum256(ev.Signature) != e.SignatureHash {
		return fmt.Errorf("%w: evidence is not that of the entry", ErrProof)
	}
	return nil
}

// Verify checks ev against e in full: the hashes in the log, the address and
// the RSA signature over the name.
func (e *Register) Verify(ev Evidence) error {
	if err := e.Bound(ev); err != nil {
		return err
	}
	return VerifyBinding(e.Name, e.Address, ev.PublicKey, ev.Signature)
}

// PublicKeyText returns the public key as the client sent it, given its DER.
func (e *Register) PublicKeyText(der []byte) []byte { return keyText(der, e.Form) }
