
/*
 * Counters; see kv_counter.h.
 */


#include "store/kv_counter.h"


static bool kv_counter_read(const kv_entry_t *e, int64_t *value);


kv_rc_t
kv_counter_create(kv_heap_t *heap, kv_entry_t **where, const void *key,
    uint16_t key_len, int64_t by)
{
    kv_rc_t  rc;

    rc = kv_entry_create(heap, where, key, key_len,
                         KV_NUMBER_MAX + sizeof(by), 0);

    if (rc == KV_OK) {
        kv_entry_write(*where, KV_NUMBER_MAX, &by, sizeof(by));
    }

    return rc;
}


kv_rc_t
kv_counter_add(kv_entry_t *e, const kv_entry_t *old)
{
    char     *text;
    int64_t   by, value;

    text = (char *) kv_entry_value(e);
    value = 0;

    memcpy(&by, text + KV_NUMBER_MAX, sizeof(by));

    if (old && !kv_counter_read(old, &value)) {
        return KV_NOT_INTEGER;
    }

    if (__builtin_add_overflow(value, by, &value)) {
        return KV_OVERFLOW;
    }

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
