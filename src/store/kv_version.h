
/*
 * Versions: which write a value is of, as clients know it.
 *
 * A version is the LSN of the write and the incarnation of the store
 * (disk/kv_format.h says why neither alone would do, and why a version never
 * comes back).  Clients see it as an entity tag (RFC 9110, section 8.8.3),
 * which means nothing to them: "<LSN>-<incarnation>", both in lower-case
 * hexadecimal digits without leading zeroes, in quotes.
 */


#ifndef KV_VERSION_H
#define KV_VERSION_H


#include "base/kv_base.h"


typedef struct {
    uint64_t  lsn;                     /* 0: there is no value */
    uint64_t  incarnation;
} kv_version_t;


/*
 * What the tags of one incarnation end with: kept, as it is the same in one
 * answer after the other.
 */

typedef struct {
    uint64_t  incarnation;
    unsigned  len;                     /* 0: not made yet */
    char      text[24];                /* a hyphen, 16 digits, a quote */
} kv_version_end_t;


/* bytes that a tag is written to: a quote, 16 digits, its end */
#define KV_VERSION_TAG  41


/* What a list of tags says of a version. */

typedef enum {
    KV_TAGS_INVALID = 0,               /* it is no such list */
    KV_TAGS_OTHERS,                    /* the version is not in it */
    KV_TAGS_NAMED,                     /* it is */
    KV_TAGS_ANY                        /* the list is "*": every version is */
} kv_tags_t;


/* Writes the tag to `tag`, KV_VERSION_TAG bytes.  Its length. */
size_t kv_version_tag(const kv_version_t *version, char *tag);

/* The same, with the end of the last tag, which is the caller's. */
size_t kv_version_tag_next(const kv_version_t *version, kv_version_end_t *end,
    char *tag);

/*
 * Reads a version, as a tag says it, with or without the quotes.  False: it is
 * none that was ever made.
 */
bool kv_version_parse(kv_version_t *version, const char *text, size_t len);

/* The same for that of a state, which may be before the first write. */
bool kv_version_parse_state(kv_version_t *version, const char *text,
    size_t len);

/*
 * Looks for a version in a list of tags, the value of an If-Match or
 * If-None-Match field (RFC 9110, section 13.1): "*", or tags with commas
 * between them.  A weak tag counts as a strong one, because nginx makes ours
 * weak where it compresses the value.  If there is no version (lsn = 0), no tag
 * names it, and the result for "*" is still KV_TAGS_ANY.
 */
kv_tags_t kv_version_find(const kv_version_t *version, const char *list,
    size_t len);


#endif /* KV_VERSION_H */
