
/*
 * What a key may be; see kv_key.h.
 */


#include "base/kv_key.h"


static bool kv_key_dot_segment(const char *key, size_t len);


/* by byte: a bit for each kv_key_chars_t */

#define S  (1 << KV_KEY_SAFE)
#define A  (1 << KV_KEY_ANY)

static const uint8_t  kv_key_bits[256] = {
    [' '] = A, ['!' ... ','] = A, ['/'] = A, [';' ... '@'] = A,
    ['[' ... '^'] = A, ['`'] = A, ['{' ... '~'] = A, [0x80 ... 0xff] = A,

    ['-'] = A|S, ['.'] = A|S, [':'] = A|S, ['_'] = A|S,

    ['0' ... '9'] = A|S,
    ['A' ... 'Z'] = A|S,
    ['a' ... 'z'] = A|S
};

#undef S
#undef A


const char *
kv_key_wrong(kv_key_chars_t chars, const char *key, size_t len)
{
    size_t   i;
    uint8_t  all;

    if (len == 0) {
        return "key cannot be empty";
    }

    for (i = 0, all = 0xff; i < len; i++) {
        all &= kv_key_bits[(uint8_t) key[i]];
    }

    if (!(all >> chars & 1)) {
        return "key contains invalid characters";
    }

    if (kv_key_dot_segment(key, len)) {
        return chars == KV_KEY_SAFE ? "key contains invalid characters"
                                    : "key has a dot segment";
    }

    return NULL;
}


static bool
kv_key_dot_segment(const char *key, size_t len)
{
    size_t       n;
    const char  *p, *slash, *end;

    for (p = key, end = key + len; p <= end; p = slash + 1) {
        slash = memchr(p, '/', (size_t) (end - p));
        slash = slash ? slash : end;
        n = (size_t) (slash - p);

        if (n && n <= 2 && memcmp(p, "..", n) == 0) {
            return true;
        }
    }

    return false;
}
