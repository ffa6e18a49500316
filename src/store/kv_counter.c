
/*
 * Counters; see kv_counter.h.
 */


#include "store/kv_counter.h"


/* Behind the space for the sum; all of it if the entry may expire. */

typedef struct {
    int64_t   by;
    uint64_t  expires;               /* of a key without a value; 0: never */
} kv_counter_t;


static kv_rc_t kv_counter_set_expires(kv_heap_t *heap, kv_entry_t **where,
    uint64_t expires);
static size_t kv_counter_size(uint8_t flags);
static bool kv_counter_read(const kv_entry_t *e, int64_t *value);


kv_rc_t
kv_counter_create(kv_heap_t *heap, kv_entry_t **where, const void *key,
    uint16_t key_len, int64_t by, uint8_t flags)
{
    kv_rc_t       rc;
    kv_counter_t  counter;

    rc = kv_entry_create(heap, where, key, key_len,
                         KV_NUMBER_MAX + kv_counter_size(flags), flags);

    if (rc == KV_OK) {
        counter.by = by;
        counter.expires = 0;
        kv_entry_write(*where, KV_NUMBER_MAX, &counter,
                       kv_counter_size(flags));
    }

    return rc;
}


static size_t
kv_counter_size(uint8_t flags)
{
    return flags & KV_ENTRY_EXPIRES ? sizeof(kv_counter_t) : sizeof(int64_t);
}


void
kv_counter_note_expires(kv_entry_t *e)
{
    uint64_t  expires;

    if (e->flags & KV_ENTRY_EXPIRES) {
        expires = kv_entry_expires(e);

        kv_entry_write(e, KV_NUMBER_MAX + offsetof(kv_counter_t, expires),
                       &expires, sizeof(expires));
    }
}


kv_rc_t
kv_counter_add(kv_heap_t *heap, kv_entry_t **where, const kv_entry_t *old,
    uint64_t expires)
{
    char          *text;
    kv_rc_t        rc;
    int64_t        value;
    kv_counter_t   counter;

    value = 0;
    counter.expires = 0;

    memcpy(&counter, kv_entry_value(*where) + KV_NUMBER_MAX,
           kv_counter_size((*where)->flags));

    if (old && !kv_counter_read(old, &value)) {
        return KV_NOT_INTEGER;
    }

    if (__builtin_add_overflow(value, counter.by, &value)) {
        return KV_OVERFLOW;
    }

    rc = kv_counter_set_expires(heap, where, old ? expires : counter.expires);

    if (rc != KV_OK) {
        return rc;
    }

    text = (char *) kv_entry_value(*where);
    (*where)->value_len = (uint32_t) kv_number_print(value, text);

    return KV_OK;
}


/*
 * The worker saw a key that does not expire, or none, and the key has got a
 * time of expiry since then: the entry is made anew with a place for it.
 */

static kv_rc_t
kv_counter_set_expires(kv_heap_t *heap, kv_entry_t **where, uint64_t expires)
{
    char     value[KV_NUMBER_MAX + sizeof(kv_counter_t)];
    kv_rc_t  rc;

    if (expires && !((*where)->flags & KV_ENTRY_EXPIRES)) {
        memset(value, 0, sizeof(value));
        memcpy(value + KV_NUMBER_MAX, kv_entry_value(*where) + KV_NUMBER_MAX,
               kv_counter_size(0));

        rc = kv_entry_remake(heap, where, value, sizeof(value),
                             KV_ENTRY_EXPIRES);

        if (rc != KV_OK) {
            return rc;
        }
    }

    if ((*where)->flags & KV_ENTRY_EXPIRES) {
        kv_entry_set_expires(*where, expires);
    }

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
