// Package replica is both ends of the conversation between a volume's writer and the stores that keep its journal:
// Server is the door of one node's stores, Client reaches the stores of all nodes.
//
// A request is a type and a body that begins with Head: store, epoch, extent. Appends are answered when durable, in
// any order; one writer's appends to one store arrive in order. The server checks, in this order: grant, promise
// (replication.Admit), content (every leaf of the payload), chain (store.Append). What it changes it answers only after
// the store's commit has made it durable. It decides nothing itself: pulling, cutting and freeing are orders of the
// volume's writer, under its epoch.
//
// One commit is under way at a time, and what comes meanwhile is in the next one. Large appends that others follow gather for it: see wait.
//
// A pull reads payloads ahead and checks them, places those that lie behind each other together where they belong (store.Place), which holds up no append and no commit,
// and then appends their records.
//
// Concurrency: Server and Client are safe for concurrent use. Handle must not block, so pulls and scrubs run as tasks.
package replica
