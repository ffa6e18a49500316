
/*
 * What a key may be; see kv_key.h.
 */


#include "base/kv_key.h"


static const bool  kv_key_chars[256] = {
    ['-'] = true, ['.'] = true, [':'] = true, ['_'] = true,

    ['0' ... '9'] = true,
    ['A' ... 'Z'] = true,
    ['a' ... 'z'] = true
};


bool
kv_key_valid(const char *key, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        if (!kv_key_chars[(uint8_t) key[i]]) {
            return false;
        }
    }

    return true;
}
