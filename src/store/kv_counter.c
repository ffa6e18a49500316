
/*
 * Counters; see kv_counter.h.
 */


#include "store/kv_counter.h"


/* Behind the space for the sum. */

typedef struct {
    int64_t   by;
    uint64_t  expires;               /* of a key without a value; 0: never */
} kv_counter_t;


static bool kv_counter_read(const kv_entry_t *e, int64_t *value);


kv_rc_t
kv_counter_create(kv_heap_t *heap, kv_entry_t **where, const void *key,
    uint16_t key_len, int64_t by)
{
    kv_rc_t       rc;
    kv_counter_t  counter;

    /* whether the key has a time of expiry is not known yet */

    rc = kv_entry_create(heap, where, key, key_len,
                         KV_NUMBER_MAX + sizeof(counter), KV_ENTRY_EXPIRES);

    if (rc == KV_OK) {
        counter.by = by;
        counter.expires = 0;
        kv_entry_write(*where, KV_NUMBER_MAX, &counter, sizeof(counter));
    }

    return rc;
}


void
kv_counter_note_expires(kv_entry_t *e)
{
    uint64_t  expires;

    expires = kv_entry_expires(e);

    kv_entry_write(e, KV_NUMBER_MAX + offsetof(kv_counter_t, expires), &expires,
                   sizeof(expires));
}


kv_rc_t
kv_counter_add(kv_entry_t *e, const kv_entry_t *old, uint64_t expires)
{
    char          *text;
    int64_t        value;
    kv_counter_t   counter;

    text = (char *) kv_entry_value(e);
    value = 0;

    memcpy(&counter, text + KV_NUMBER_MAX, sizeof(counter));

    if (old && !kv_counter_read(old, &value)) {
        return KV_NOT_INTEGER;
    }

    if (__builtin_add_overflow(value, counter.by, &value)) {
        return KV_OVERFLOW;
    }

    kv_entry_set_expires(e, old ? expires : counter.expires);

    e->value_len = (uint32_t) kv_number_print(value, text);

    return KV_OK;
}


int64_t
kv_counter_value(const kv_entry_t *e)
{
    int64_t  value;

    value = 0;

    if (!kv_counter_read(e, &value)) {
        assert(!"a sum is a number");
    }

    return value;
}


static bool
kv_counter_read(const kv_entry_t *e, int64_t *value)
{
    return !(e->flags & KV_ENTRY_PIECES)
           && kv_number_parse(kv_entry_value(e), e->value_len, value);
}
