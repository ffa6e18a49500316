
/*
 * Bytes that wait; see kv_net_private.h.
 */


#include <stdlib.h>

#include "net/kv_net_private.h"


unsigned char *
kv_net_buffer_reserve(kv_net_buffer_t *b, size_t n)
{
    size_t  len, size;

    len = kv_net_buffer_len(b);

    if (n <= b->size - b->end) {
        return b->p + b->end;
    }

    /* What moves was not moved since as many bytes were taken. */

    if (n <= b->size - len && b->first >= b->size / 2) {
        memmove(b->p, b->p + b->first, len);

    } else {
        size = kv_max(b->size * 2, KV_NET_BUFFER);

        while (size - len < n) {
            size *= 2;
        }

        if (b->first) {
            memmove(b->p, b->p + b->first, len);
        }

        b->p = realloc(b->p, size);
        assert(b->p != NULL);
        b->size = size;
    }

    b->first = 0;
    b->end = len;

    return b->p + len;
}


void
kv_net_buffer_add(kv_net_buffer_t *b, size_t n)
{
    assert(n <= b->size - b->end);

    b->end += n;
}


void
kv_net_buffer_take(kv_net_buffer_t *b, size_t n)
{
    assert(n <= kv_net_buffer_len(b));

    b->first += n;

    if (b->first == b->end) {
        b->first = 0;
        b->end = 0;
    }
}


void
kv_net_buffer_trim(kv_net_buffer_t *b)
{
    if (b->end == 0 && b->size > KV_NET_BUFFER_MAX) {
        kv_net_buffer_free(b);
    }
}


void
kv_net_buffer_free(kv_net_buffer_t *b)
{
    free(b->p);
    memset(b, 0, sizeof(*b));
}
