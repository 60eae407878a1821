package dht

import "errors"

// Sentinels; match with errors.Is.
var (
	// ErrMalformed marks input that is not what the format asks for: drop it.
	ErrMalformed = errors.New("dht: malformed input")
	// ErrRefused marks a value that a store or edit policy keeps out. Upstream
	// still acknowledges such a put (§7.1), so it is counted, not reported.
	ErrRefused = errors.New("dht: value refused by its type")
	// ErrUnsigned is returned when a signature was needed and there is none.
	ErrUnsigned = errors.New("dht: value is not signed")
	// ErrBadSignature is returned when a signature does not verify.
	ErrBadSignature = errors.New("dht: signature does not verify")
)
