
/*
 * kv_version_find() on the value of an If-Match or If-None-Match field.  An
 * input is a version (a byte of how many bits, and 16 of its numbers) and a
 * list, in which the byte 1 stands for the version's tag, 2 for its weak one.
 *
 * What must hold: it says what a simpler reading of the grammar says, nothing
 * behind the list is read, and the version's tag is found wherever it is added
 * to a list of tags.
 */


#include "fuzz.h"
#include "store/kv_version.h"


/* The list, as long as its memory. */

typedef struct {
    char    *p;
    size_t   len;
} version_list_t;


static void version_read(fuzz_feed_t *feed, kv_version_t *version);
static void version_check_tag(const kv_version_t *version, const char *tag,
    size_t len);
static void version_add(version_list_t *list, const char *p, size_t len);
static kv_tags_t version_find(const kv_version_t *version,
    const version_list_t *list);
static void version_insert(const kv_version_t *version, const char *tag,
    size_t len, const version_list_t *list, size_t at);
static kv_tags_t version_expected(const kv_version_t *version,
    const version_list_t *list);
static kv_tags_t version_element(const kv_version_t *version, const char *p,
    const char *end);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool             quoted;
    char             tag[KV_VERSION_TAG];
    size_t           i, len;
    fuzz_feed_t      feed = { data, data + size };
    kv_version_t     version;
    version_list_t   list = { malloc(1), 0 };

    version_read(&feed, &version);
    len = kv_version_tag(&version, tag);
    version_check_tag(&version, tag, len);

    for ( /* void */ ; feed.p < feed.end; feed.p++) {

        if (*feed.p == 2) {
            version_add(&list, "W/", 2);
        }

        if (*feed.p == 1 || *feed.p == 2) {
            version_add(&list, tag, len);

        } else {
            version_add(&list, (const char *) feed.p, 1);
        }
    }

    /* where a tag may be added: at the ends, and before a comma */

    if (version_find(&version, &list) == KV_TAGS_OTHERS) {
        quoted = false;
        version_insert(&version, tag, len, &list, 0);
        version_insert(&version, tag, len, &list, list.len);

        for (i = 0; i < list.len && list.len < 500; i++) {
            quoted ^= list.p[i] == '"';

            if (list.p[i] == ',' && !quoted) {
                version_insert(&version, tag, len, &list, i);
            }
        }
    }

    free(list.p);

    return 0;
}


/* Numbers of all lengths, of which most have few digits. */

static void
version_read(fuzz_feed_t *feed, kv_version_t *version)
{
    uint8_t  bits;

    bits = fuzz_u8(feed);

    fuzz_bytes(feed, version, sizeof(*version));

    version->lsn >>= 4 * (bits & 15);
    version->incarnation >>= 4 * (bits >> 4);
}


/* The tag gives the numbers back, and has the one form that they have. */

static void
version_check_tag(const kv_version_t *version, const char *tag, size_t len)
{
    int   n;
    char  expected[KV_VERSION_TAG + 1];

    n = snprintf(expected, sizeof(expected), "\"%llx-%llx\"",
                 (unsigned long long) version->lsn,
                 (unsigned long long) version->incarnation);

    fuzz_check(len <= KV_VERSION_TAG && (size_t) n == len);
    fuzz_check(memcmp(tag, expected, len) == 0);
}


static void
version_add(version_list_t *list, const char *p, size_t len)
{
    if (len == 0) {
        return;
    }

    list->p = realloc(list->p, list->len + len);
    fuzz_check(list->p);

    memcpy(list->p + list->len, p, len);
    list->len += len;
}


static kv_tags_t
version_find(const kv_version_t *version, const version_list_t *list)
{
    kv_tags_t     found, expected;
    kv_version_t  none;

    found = kv_version_find(version, list->p, list->len);
    expected = version_expected(version, list);

    fuzz_check(found == expected, "%d, not %d: %.*s", found, expected,
               (int) list->len, list->p);

    /* whether it is a list does not depend on what is looked for */

    none.lsn = 0;
    none.incarnation = version->incarnation;

    fuzz_check(kv_version_find(&none, list->p, list->len)
               == (found == KV_TAGS_NAMED ? KV_TAGS_OTHERS : found));

    return found;
}


static void
version_insert(const kv_version_t *version, const char *tag, size_t len,
    const version_list_t *list, size_t at)
{
    version_list_t  more = { malloc(1), 0 };

    version_add(&more, list->p, at);
    version_add(&more, ",", 1);
    version_add(&more, tag, len);
    version_add(&more, ",", 1);
    version_add(&more, list->p + at, list->len - at);

    fuzz_check(version_find(version, &more)
               == (version->lsn ? KV_TAGS_NAMED : KV_TAGS_OTHERS));

    free(more.p);
}


/* A list is cut at the commas that are not quoted; see RFC 9110, 5.6.1. */

static kv_tags_t
version_expected(const kv_version_t *version, const version_list_t *list)
{
    bool         quoted;
    kv_tags_t    found, one;
    const char  *p, *end, *begin;

    if (list->len == 1 && *list->p == '*') {
        return KV_TAGS_ANY;
    }

    found = KV_TAGS_INVALID;
    quoted = false;
    end = list->p + list->len;

    for (p = begin = list->p; p <= end; p++) {

        if (p < end && (*p != ',' || quoted)) {
            quoted ^= *p == '"';
            continue;
        }

        one = version_element(version, begin, p);
        begin = p + 1;

        if (one == KV_TAGS_INVALID) {
            return KV_TAGS_INVALID;
        }

        /* KV_TAGS_ANY: an empty one, which says nothing */

        if (one != KV_TAGS_ANY && found != KV_TAGS_NAMED) {
            found = one;
        }
    }

    return found;
}


static kv_tags_t
version_element(const kv_version_t *version, const char *p, const char *end)
{
    char          ours[KV_VERSION_TAG];
    size_t        len;
    const char   *q;

    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    while (end > p && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }

    if (p == end) {
        return KV_TAGS_ANY;
    }

    if (end - p >= 2 && memcmp(p, "W/", 2) == 0) {
        p += 2;
    }

    if (end - p < 2 || *p != '"' || end[-1] != '"') {
        return KV_TAGS_INVALID;
    }

    for (q = p + 1; q < end - 1; q++) {
        if (*q == '"' || *q == 0x7f || (*q >= 0 && *q <= ' ')) {
            return KV_TAGS_INVALID;
        }
    }

    len = kv_version_tag(version, ours);

    return version->lsn && (size_t) (end - p) == len
           && memcmp(p, ours, len) == 0 ? KV_TAGS_NAMED : KV_TAGS_OTHERS;
}
