
/*
 * What a key may be.
 */


#ifndef KV_KEY_H
#define KV_KEY_H


#include "base/kv_base.h"


/*
 * Whether `len` bytes, which may be 0, have no characters but those of keys:
 * A-Z a-z 0-9 : _ . -
 */
bool kv_key_valid(const char *key, size_t len);


#endif /* KV_KEY_H */
