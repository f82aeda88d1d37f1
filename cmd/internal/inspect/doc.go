// Package inspect looks at networks of a Kubernetes cluster for a person: how they are, why a volume, claim or pod is not well and
// what to do, and a bundle of all that somebody from afar needs to help.
//
// It reads the API with the rights that its user has; nothing is changed. Facts are gathered once, what follows from them is pure: the
// same facts give the same words.
//
// # Invariants
//
//  1. What may not be read is said as such, and everything else still shown. (TestForbidden)
//  2. No Secret, key, token, grant or signature is in a bundle: Secrets are not read at all, fields that carry signed bytes are taken out
//     of objects, and texts are searched for what looks like a key or a token. (TestBundle)
//  3. Each finding says what to do, or whom it waits for. (TestExplain)
//
// Concurrency: a Facts is not changed after Gather.
package inspect
