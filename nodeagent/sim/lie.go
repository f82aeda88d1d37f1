package sim

// lie is a double that stands between production objects and says what is not true.
type lie interface {
	// onSend may take over a request before it leaves its process.
	onSend(w *World, src *proc, dst *node, r *request) bool
	// onHandle may take over a request that has arrived.
	onHandle(w *World, n *node, r *request) bool
	// onEnd is called when a process has ended.
	onEnd(w *World, n *node, kill bool)
}
