// Package policy decides which names may exist and who may register them. It
// keeps no store and reads no clock: tables take the time as an argument.
//
// # Names
//
// A registration carries the bytes the client signed; the lookup key derived
// from them by [Names.Key] is what must be unique. The ASCII rule, the
// default, is what every client can look up: 3 to 32 of a–z, 0–9, '-' and '_',
// any letter case (docs/protocols/nameserver.md §6). The Unicode rule adds
// letters, marks and digits of one script (or of a usual East Asian mix) in
// Unicode normal form C with case folded; clients of 2023 cannot look such
// names up. Under both rules a name may not look like an account id, which
// would shadow it.
//
// # Confusables
//
// [Skeleton] maps names that look alike to one string, and the store keeps
// skeletons unique: with "paul" registered, "pau1" is refused.
//
// # Who may register
//
// [ModeOpen] takes everyone, within a rate per network; [ModeInvite] wants an
// invite token; [ModeAllowList] wants the account on a list; [ModeClosed]
// takes nobody. Lookups are never restricted.
package policy
