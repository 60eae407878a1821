// Package dhtcrypto is the cryptography of the OpenDHT protocol and the value
// policies that need it: identities on disk, signed and encrypted values,
// certificates and where they are published, password encryption of archives.
// It does no network I/O. The format is docs/protocols/opendht.md; comments
// cite its sections.
//
// # Algorithms
//
//	signature       RSASSA-PKCS1-v1_5 with SHA-512 over the canonical body (§6.1)
//	short block     RSAES-PKCS1-v1_5, up to k−11 bytes for a key of k bytes (§6.2)
//	long block      RSA block with a random AES key ‖ IV(12) ‖ AES-GCM ‖ tag(16)
//	password        salt(16) ‖ IV(12) ‖ AES-256-GCM ‖ tag(16), key =
//	                SHA-256(Argon2i(password, salt, t=16, m=64 MiB, p=1)) (§6.5)
//
// None of these is what one would choose today, and all of them are what the
// network speaks. Decryption failures say nothing but that they happened, and
// must not become visible to the sender (§21.1).
//
// # Certificates with negative serials
//
// OpenDHT before 4.3 wrote serial numbers in host byte order, so about half of
// its certificates carry a negative one, which crypto/x509 refuses. This
// package reads the key of such a certificate regardless (see [Certificate]).
// A program that also wants them in x509 form, for TLS say, needs this line in
// its main package:
//
//	//go:debug x509negativeserial=1
package dhtcrypto
