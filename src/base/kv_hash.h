
/*
 * SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
 * 2012; the 1-3 variant is what Rust, Python and Ruby use for their tables).
 * Keyed, so that no client can choose keys that collide.
 */


#ifndef KV_HASH_H
#define KV_HASH_H


#include "base/kv_base.h"


/* The hash of `n` bytes under a secret seed of 128 bits. */
uint64_t kv_hash(const uint64_t seed[2], const void *key, size_t n);


#endif /* KV_HASH_H */
