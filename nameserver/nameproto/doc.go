// Package nameproto is the Jami name protocol as data: the JSON bodies that
// clients and name servers exchange over HTTP/1.1, and the cryptographic rule
// that binds a name to an account. It does no I/O, keeps no state and starts
// nothing.
//
// # Registration
//
// POST /name/<name>, the body a flat JSON object of four strings, written by
// the client in this order and without white space:
//
//	{"addr":"<40 hex>","owner":"<40 hex>","signature":"<base64>","publickey":"<base64>"}
//
// publickey is base64 of a PEM SubjectPublicKeyInfo (RSA, 4096 bits in real
// clients). OpenDHT before 4.3.0 appends one NUL byte to the PEM text; it is
// part of the registered bytes and is returned with them, and only removed to
// parse the key. addr is the lower-case hex SHA-1 of the DER of that key.
// signature is base64 of RSA PKCS#1 v1.5 with SHA-512 over the bytes of the
// name in the path, which the client lower-cased (ASCII letters only) before
// it signed. owner is a relic and takes no part in any check.
//
// The answer is {"success":true}, or {"success":false,"error":"<text>"} with
// one of the statuses of [Status]. success MUST be a JSON boolean: a string
// there terminates C++ clients.
//
// # Lookup
//
// GET /name/<name> answers {"name","addr","publickey","signature"}, all four
// byte for byte as registered: clients check the signature over the returned
// name, and treat an answer without publickey or signature as unsigned.
// GET /addr/<addr> answers {"name"}.
//
// See docs/protocols/nameserver.md for what each client makes of each status.
package nameproto
