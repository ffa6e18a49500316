
/*
 * Dictionaries in headers of HTTP, as Content-Digest is one: RFC 8941, section
 * 3.2.
 */


#ifndef KV_DICTIONARY_H
#define KV_DICTIONARY_H


#include "base/kv_base.h"


/* A member; it points into the text. */

typedef struct {
    const char  *key;
    size_t       key_len;
    const char  *base64;         /* its value, between the colons; NULL: its
                                    value is no byte sequence */
    size_t       base64_len;
} kv_dictionary_member_t;


/*
 * Reads the member at *p, which is where the text begins at first, and moves *p
 * to the next one.  KV_OK; KV_NOT_FOUND: there are no more; KV_DECLINED: the
 * text is no dictionary.  Members may stand twice: then the last one counts.
 * What is between the colons has the letters of base64 alone.
 */
kv_rc_t kv_dictionary_next(const char **p, const char *end,
    kv_dictionary_member_t *member);


#endif /* KV_DICTIONARY_H */
