
/*
 * Counters: values that are numbers, to which an operation adds (KV_OP_INCR).
 *
 * The worker builds the entry of the sum, without the sum: it has space for the
 * longest number, and behind that the number to be added, and the time of
 * expiry that the key gets if it has no value yet; they stay there until the
 * entry is in the map.  So the committer can decide the operation again, after
 * the death of the one that had decided it before.
 */


#ifndef KV_COUNTER_H
#define KV_COUNTER_H


#include "base/kv_number.h"
#include "memory/kv_entry.h"


/*
 * Makes the entry of an operation that adds `by` to the value of a key.  With
 * KV_ENTRY_EXPIRES, or 0: the key most likely does not expire.  Results as of
 * kv_entry_create().
 */
kv_rc_t kv_counter_create(kv_heap_t *heap, kv_entry_t **where,
    const void *key, uint16_t key_len, int64_t by, uint8_t flags);

/* Notes the entry's time of expiry as that of a key without a value. */
void kv_counter_note_expires(kv_entry_t *e);

/*
 * Gives the entry the sum, as text, for its value: of its number and the one in
 * `old`, which expires then (0: never), or zero if that is NULL; and the time
 * of expiry of `old`, or what was noted; *where may be another entry then.
 * KV_OK; KV_NOT_INTEGER: the old value is no number; KV_OVERFLOW: the sum has
 * more than 64 bits; KV_NO_MEMORY for the time of expiry, KV_DEAD.
 */
kv_rc_t kv_counter_add(kv_heap_t *heap, kv_entry_t **where,
    const kv_entry_t *old, uint64_t expires);

/* The number that the value of an entry is, after kv_counter_add(). */
int64_t kv_counter_value(const kv_entry_t *e);


#endif /* KV_COUNTER_H */
