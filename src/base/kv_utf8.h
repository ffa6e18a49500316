
/*
 * What is UTF-8, as RFC 3629 has it: each character in its shortest form, none
 * of the surrogates, none above U+10FFFF.
 */


#ifndef KV_UTF8_H
#define KV_UTF8_H


#include "base/kv_base.h"


/*
 * The bytes of the character that begins at `p`, of which `n` bytes, at least
 * one, are there; 0: it is none, or not all of it is there.
 */
size_t kv_utf8_size(const char *p, size_t n);


#endif /* KV_UTF8_H */
