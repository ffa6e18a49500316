
/*
 * Versions as entity tags; see kv_version.h.
 */


#include "store/kv_version.h"


static char *kv_version_hex(char *p, uint64_t n);
static const char *kv_version_next(const char *p, const char *end,
    const char **tag, size_t *len);


size_t
kv_version_tag(const kv_version_t *version, char *tag)
{
    char  *p;

    p = tag;

    *p++ = '"';
    p = kv_version_hex(p, version->lsn);
    *p++ = '-';
    p = kv_version_hex(p, version->incarnation);
    *p++ = '"';

    return (size_t) (p - tag);
}


static char *
kv_version_hex(char *p, uint64_t n)
{
    int  shift;

    shift = n ? (63 - __builtin_clzll(n)) & ~3 : 0;

    for ( /* void */ ; shift >= 0; shift -= 4) {
        *p++ = "0123456789abcdef"[n >> shift & 15];
    }

    return p;
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
