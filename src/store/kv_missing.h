
/*
 * A set of keys, by their hashes, for which the zone had no memory yet.
 */


#ifndef KV_MISSING_H
#define KV_MISSING_H


#include "base/kv_base.h"


/*
 * In open addressing.  The lowest bit says whether the key is missing now; a
 * cell of 0 is empty.  Two keys of one hash do no harm: both are read again.
 * All zero is an empty set; the caller frees `cell`.
 */

typedef struct {
    uint64_t     *cell;
    size_t        size;              /* a power of two, or 0 */
    size_t        used;
    size_t        missing;
} kv_missing_t;


/* Says whether a key is missing.  False if there is no memory to add it. */
bool kv_missing_set(kv_missing_t *set, uint64_t hash, bool missing);

/* Whether it is; the set has had a key. */
bool kv_missing_has(kv_missing_t *set, uint64_t hash);


#endif /* KV_MISSING_H */
