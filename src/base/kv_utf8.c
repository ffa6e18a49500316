
/*
 * What is UTF-8; see kv_utf8.h.
 */


#include "base/kv_utf8.h"


static inline bool
kv_utf8_goes_on(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}


size_t
kv_utf8_size(const char *p, size_t n)
{
    const uint8_t  *s;

    s = (const uint8_t *) p;

    if (s[0] < 0x80) {
        return 1;
    }

    if (s[0] < 0xe0) {
        return s[0] >= 0xc2 && n >= 2 && kv_utf8_goes_on(s[1]) ? 2 : 0;
    }

    if (n < 3 || !kv_utf8_goes_on(s[1]) || !kv_utf8_goes_on(s[2])) {
        return 0;
    }

    if (s[0] < 0xf0) {

        /* shorter is possible; a surrogate */

        return (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0)
               ? 0 : 3;
    }

    if (n < 4 || !kv_utf8_goes_on(s[3]) || s[0] > 0xf4) {
        return 0;
    }

    /* shorter is possible; above U+10FFFF */

    return (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90)
           ? 0 : 4;
}
