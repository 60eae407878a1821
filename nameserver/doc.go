// Package nameserver is the Jami name server: it binds names to accounts for
// ever, on a ledger that others can verify.
//
// Two families of routes share the listeners. The compatible ones are what
// unmodified clients of 2023 and 2026 speak, byte for byte, at the root and
// again under /i/<invite>/, since clients take any URL as base of the
// protocol (docs/protocols/nameserver.md):
//
//	GET  /name/{name}                  200 entry, 400, 404, 503
//	POST /name/{name}                  200 success, 400, 401, 403, 503
//	GET  /addr/{addr}                  200 name, 400, 404, 503
//	GET  /name/{name}/{owner|publickey|signature}
//
// Clients keep a positive answer for ever, forget their own name on a 404,
// take every 4xx but 400 and 401 for "taken", and may be unable to repeat a
// failed registration. So: what may still change is never answered; 503 is the
// answer to everything that may pass, 404 only to what certainly is not there;
// a registration that cannot be decided is held for some seconds; a repeat of
// one that holds is a success.
//
// The others are ours: /ledger/ in the C2SP tlog formats, /v1/ in JSON as
// openapi.yaml describes, and pages for people at /.
package nameserver
