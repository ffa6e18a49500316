
/*
 * What is UTF-8; see kv_utf8.h.
 */


#include "base/kv_utf8.h"


size_t
kv_utf8_size(const char *p, size_t n)
{
    size_t          i, size;
    uint32_t        c;
    const uint8_t  *s;

    s = (const uint8_t *) p;

    if (s[0] < 0x80) {
        return 1;
    }

    if (s[0] < 0xc2 || s[0] > 0xf4) {
        return 0;
    }

    size = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (n < size) {
        return 0;
    }

    c = s[0] & (0x7fu >> size);

    for (i = 1; i < size; i++) {

        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }

        c = c << 6 | (s[i] & 0x3f);
    }

    if (size == 3 && (c < 0x800 || (c >= 0xd800 && c <= 0xdfff))) {
        return 0;
    }

    return size == 4 && (c < 0x10000 || c > 0x10ffff) ? 0 : size;
}
