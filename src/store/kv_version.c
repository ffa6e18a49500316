
/*
 * Versions as entity tags; see kv_version.h.
 */


#include <endian.h>

#include "store/kv_version.h"


static char *kv_version_hex(char *p, uint64_t n);
static char *kv_version_digits(char *p, uint32_t n, unsigned digits);
static const char *kv_version_next(const char *p, const char *end,
    const char **tag, size_t *len);


size_t
kv_version_tag(const kv_version_t *version, char *tag)
{
    kv_version_end_t  end;

    memset(&end, 0, sizeof(end));

    return kv_version_tag_next(version, &end, tag);
}


size_t
kv_version_tag_next(const kv_version_t *version, kv_version_end_t *end,
    char *tag)
{
    char  *p;

    if (end->len == 0 || end->incarnation != version->incarnation) {
        end->text[0] = '-';
        p = kv_version_hex(end->text + 1, version->incarnation);
        *p++ = '"';

        end->len = (unsigned) (p - end->text);
        end->incarnation = version->incarnation;
    }

    tag[0] = '"';
    p = kv_version_hex(tag + 1, version->lsn);

    /* of a fixed length, which needs no call */

    memcpy(p, end->text, sizeof(end->text));

    return (size_t) (p - tag) + end->len;
}


/* Returns the end of the digits, behind which up to 7 bytes are written. */

static char *
kv_version_hex(char *p, uint64_t n)
{
    uint32_t  high, first;
    unsigned  digits;

    high = (uint32_t) (n >> 32);
    first = high ? high : (uint32_t) n;
    digits = first ? (35 - (unsigned) __builtin_clz(first)) / 4 : 1;

    p = kv_version_digits(p, first << (32 - 4 * digits), digits);

    return high ? kv_version_digits(p, (uint32_t) n, 8) : p;
}


/* Writes eight digits, of which the caller needs that many. */

static char *
kv_version_digits(char *p, uint32_t n, unsigned digits)
{
    uint64_t  x, letters;

    /* a digit in each byte, */

    x = n;
    x = (x << 16 | x) & 0x0000ffff0000ffff;
    x = (x << 8 | x) & 0x00ff00ff00ff00ff;
    x = (x << 4 | x) & 0x0f0f0f0f0f0f0f0f;

    /* and 1 in that of each from 10 on */

    letters = (x + 0x0606060606060606) >> 4 & 0x0101010101010101;
    x = htobe64(x + 0x3030303030303030 + letters * ('a' - '9' - 1));

    memcpy(p, &x, sizeof(x));

    return p + digits;
}


bool
kv_version_parse(kv_version_t *version, const char *text, size_t len)
{
    return kv_version_parse_state(version, text, len) && version->lsn;
}


bool
kv_version_parse_state(kv_version_t *version, const char *text, size_t len)
{
    char         again[KV_VERSION_TAG];
    size_t       n;
    uint64_t    *number;
    const char  *p, *end;

    version->lsn = 0;
    version->incarnation = 0;

    if (len > 2 && memcmp(text, "W/", 2) == 0) {
        text += 2;
        len -= 2;
    }

    if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
        text++;
        len -= 2;
    }

    number = &version->lsn;

    for (p = text, end = text + len; p < end; p++) {

        if (*p == '-') {
            number = &version->incarnation;

        } else if (*p >= '0' && *p <= '9') {
            *number = *number << 4 | (uint64_t) (*p - '0');

        } else {
            *number = *number << 4 | ((uint64_t) (*p - 'a' + 10) & 0xf);
        }
    }

    /* what is anything else does not come out of it again */

    n = kv_version_tag(version, again);

    return n == len + 2 && memcmp(again + 1, text, len) == 0;
}


kv_tags_t
kv_version_find(const kv_version_t *version, const char *list, size_t len)
{
    char         ours[KV_VERSION_TAG];
    size_t       n, ours_len;
    kv_tags_t    found;
    const char  *p, *end, *tag;

    if (len == 1 && list[0] == '*') {
        return KV_TAGS_ANY;
    }

    ours_len = kv_version_tag(version, ours);
    found = KV_TAGS_INVALID;
    end = list + len;

    for (p = list; p < end; /* void */) {

        if (*p == ',' || *p == ' ' || *p == '\t') {
            p++;
            continue;
        }

        p = kv_version_next(p, end, &tag, &n);

        if (p == NULL) {
            return KV_TAGS_INVALID;
        }

        if (version->lsn && n == ours_len && memcmp(tag, ours, n) == 0) {
            found = KV_TAGS_NAMED;

        } else if (found == KV_TAGS_INVALID) {
            found = KV_TAGS_OTHERS;
        }
    }

    return found;
}


/*
 * The tag at `p`, with its quotes and without the W/ of a weak one.  Where it
 * ends, and the comma or the end of the list follows; or NULL.
 */

static const char *
kv_version_next(const char *p, const char *end, const char **tag, size_t *len)
{
    if (end - p > 2 && p[0] == 'W' && p[1] == '/') {
        p += 2;
    }

    if (*p != '"') {
        return NULL;
    }

    *tag = p;

    /* a tag has visible characters only, and bytes from 0x80 on */

    for (p++; p < end && *p != '"'; p++) {
        if ((unsigned char) *p <= ' ' || *p == 0x7f) {
            return NULL;
        }
    }

    if (p == end) {
        return NULL;
    }

    p++;
    *len = (size_t) (p - *tag);

    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return p == end || *p == ',' ? p : NULL;
}
