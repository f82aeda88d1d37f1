// Package placement decides which nodes hold which shard of the key space.
//
// A Layout is an immutable, versioned table shard → ordered replicas. Compute derives it from the members (id, zone,
// weight, state), the parameters and the previous layout, and from nothing else: whoever computes with the same
// inputs gets the same bytes, on every architecture (integer arithmetic only).
//
// # Fair share
//
// Let P be the shards, n_z the active nodes of zone z, R' = min(R, active nodes). The zone rule: L is the largest
// level with Σ_z min(n_z, L) ≤ R'; a shard holds between lo_z = min(n_z, L) and hi_z = min(n_z, L+1) replicas in
// zone z. With at least R zones this is "at most one", with fewer it is "as even as the zones' node counts allow".
//
//	zone:  F_z = clamp( Σ_{i in z} min(P, λ·w_i),  lo_z·P,  hi_z·P ),  λ such that Σ_z F_z = P·R'
//	node:  f_i = min(P, μ_z·w_i),  μ_z such that Σ_{i in z} f_i = F_z
//
// F_z, then f_i, are rounded down or up to whole copies: a node is less than two copies off. What is rounded up follows
// what is held already, so rounding moves nothing.
//
// # Wire and disk format
//
// Little endian. The header and member list of a full layout (kind 0):
//
//	 0  magic     "MNLY"
//	 4  format    u8  = 1
//	 5  kind      u8  0 full, 1 delta
//	 6  zones     u8  zone policy
//	 7  replicas  u8  R as asked, 1..16
//	 8  bits      u8  log2 P, 0..22
//	 9  reserved  3   0
//	12  members   u32 1..32768
//	16  version   u64 from 1
//
//	member: id length u8, id, zone length u8, zone, weight u64, state u8   (strictly rising by id)
//	table:  P rows of min(R, active members) member indexes, u8 each when members ≤ 256, else u16
//
// A delta (kind 1) has the same header, describing the result, then:
//
//	24  base      32  Hash of the layout it applies to
//	56  result    32  Hash of the layout it yields
//	removed:  uvarint n, then n uvarint gaps in the base's member list
//	upserted: uvarint n, then n members
//	rows:     uvarint n, then n times: uvarint gap in the shard numbers, one row as in the table
//
// Gaps count the entries skipped since the one before. Hash is BLAKE3-256 of the full encoding.
//
// # Concurrency
//
// A Layout never changes after it is made; all functions are pure and safe for concurrent use.
package placement
