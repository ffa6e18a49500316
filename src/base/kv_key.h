
/*
 * What a key may be.
 */


#ifndef KV_KEY_H
#define KV_KEY_H


#include "base/kv_base.h"


/* The bytes that the keys of a location may have. */

typedef enum {
    KV_KEY_SAFE = 0,      /* A-Z a-z 0-9 : _ . - */
    KV_KEY_ANY            /* all but controls: 0x00 to 0x1f, and 0x7f */
} kv_key_chars_t;


/*
 * What is wrong with a key of `len` bytes, which may be 0, as a text that can
 * stand in a JSON string as it is; NULL: nothing.  It does not look for
 * KV_KEY_MAX.
 *
 * A key with a dot segment, that is with "." or ".." between two slashes, or
 * between one and an end, is none in either set.  In a path nginx resolves
 * these, however they are encoded, before it chooses the location: such a key
 * would have the access rules of another one, or no address at all.
 */
const char *kv_key_wrong(kv_key_chars_t chars, const char *key, size_t len);


#endif /* KV_KEY_H */
