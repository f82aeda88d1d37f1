// Package request holds what the controller and the node service have in common: the way to agents, the reading and checking
// of parameters, capabilities, sizes and keys, the guard against two calls for one thing, what is said of a volume's health,
// and the one switch from errors to codes.
//
// # Invariants
//
//  1. What is read is wholly checked: what the specification or an agent forbids never gets further, and each refusal says
//     what was wrong and what is allowed. A parameter that is not known is refused, never ignored.
//  2. No error, and nothing that is logged, says anything of a key.
//  3. Every error has one code, from Code. Those of agents keep theirs.
//
// # Concurrency
//
// Functions are pure, or only call agents. A Flight is safe for concurrent use.
package request
