
/*
 * What a key may be; see kv_key.h.
 */


#include "base/kv_key.h"


static const uint32_t  kv_key_chars[] = {
    0x00000000,
    0x07ff6000,                    /* - . 0-9 : */
    0x87fffffe,                    /* A-Z _ */
    0x07fffffe,                    /* a-z */
    0x00000000, 0x00000000, 0x00000000, 0x00000000
};


bool
kv_key_valid(const char *key, size_t len)
{
    size_t   i;
    uint8_t  c;

    for (i = 0; i < len; i++) {
        c = (uint8_t) key[i];

        if (!(kv_key_chars[c >> 5] & (1U << (c & 0x1f)))) {
            return false;
        }
    }

    return true;
}
