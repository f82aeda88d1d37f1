// Package guard keeps kubectl drain from taking more storage nodes away than the data can lose.
//
// A drain ignores the pods of a DaemonSet, so a disruption budget over agents protects nothing. Each storage node therefore has a
// guard pod, which does nothing, is owned by its StorageNode and tolerates no cordon; a budget over all guard pods of a network
// has an integer minAvailable. Evicting a node's guard is asking to lose the node.
//
//	budget open     minAvailable = guards - 1   one eviction may pass
//	budget closed   minAvailable = guards       a drain waits, and tries again by itself
//
// # Invariants
//
//  1. The budget is open only while every storage node serves, holds its share of the present layout, no copy is missing, and no
//     node holds a last copy. (TestBudget: each condition alone closes it)
//  2. After an eviction it stays closed until that node is back and synced; then it opens by itself. (TestTwoDrains)
//  3. A node that is drained empty, or is no storage node, has no guard and holds nobody up. (TestGuards)
//  4. minAvailable never falls below guards - 1, whatever happens. (TestBudgetIsNeverWide)
//
// The decisions are pure functions. Guard pods and budgets are applied by package storagenode.
package guard
