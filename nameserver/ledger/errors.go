package ledger

import "errors"

var (
	// ErrMalformed wraps every decoding error: the bytes are not of the format.
	ErrMalformed = errors.New("ledger: malformed")
	// ErrInvalidKey says that a registration's public key is not an RSA key
	// this ledger takes, or that its address is not the address given.
	ErrInvalidKey = errors.New("ledger: public key refused")
	// ErrInvalidSignature says that a registration is not signed by its key.
	ErrInvalidSignature = errors.New("ledger: signature does not verify")
	// ErrProof says that a proof does not prove what it claims; the server
	// that gave it is wrong or lies.
	ErrProof = errors.New("ledger: proof does not hold")
	// ErrCheckpoint says that a checkpoint is not signed by the log, or is not
	// of this log.
	ErrCheckpoint = errors.New("ledger: checkpoint refused")
)
