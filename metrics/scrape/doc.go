// Package scrape serves metrics over HTTP to whom may have them.
//
// In a cluster it is TLS, and who asks is known to the API server: the bearer token of the request is reviewed (TokenReview), and its user
// must have the right "get" on the non-resource URL /metrics (SubjectAccessReview), as for Kubernetes' own components. Answers are kept for
// a while, so that a scrape costs the API nothing; and so few reviews are asked for that strangers with guessed tokens cost it little.
// Without a cluster it is served on loopback addresses only, in clear.
//
// Metrics tell names of volumes, claims and nodes, and figures; never content or keys.
//
// # Invariants
//
//  1. Without an Authorizer nothing but loopback is listened on. (TestLoopback)
//  2. Nobody gets a byte of metrics whom the API server did not allow it within Remember, or, while it does not answer, within Outage.
//     (TestAuthorize, TestOutage)
//  3. Strangers cause at most Reviews requests to the API a second. (TestStrangers)
//
// Concurrency: Serve is a Runnable; a Reviewer may be used from any goroutine.
package scrape
