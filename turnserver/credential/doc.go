// Package credential answers the one question TURN's long-term authentication asks: which key belongs to this user of this realm.
//
// The key is MD5(username ":" realm ":" password) of RFC 8489 §9.2.2, the form that every TURN client in use makes. Three sources give
// keys:
//
//   - [Users]: names with passwords or ready-made keys, from a file or from the configuration;
//   - [SharedSecrets]: time-limited credentials, whose user name is an expiry time and whose password is an HMAC over it, so that a
//     service that shares the secret can hand out access without telling the server (the "REST API for access to TURN services");
//   - [Table]: a table in SQLite or PostgreSQL, behind a small cache.
//
// A [Realm] asks its sources in that order. A source that has to wait says so, and the caller asks again from where it may block; the
// server's packet loops never wait for a database.
//
// [Nonces] makes the nonces of RFC 8489 §9.2.1 without keeping any: each carries its time of birth and an HMAC over it. They are bound
// neither to a 5-tuple nor to a single use, since Jami's clients present the nonce of one connection on another
// (docs/protocols/turn-usage.md §4).
//
// What an attacker holding each thing can do: a users file or table row lets them relay as that user (a row's key cannot be turned into
// the password except by guessing, but it is as good as the password for this realm); a shared secret lets them make any number of users.
package credential
