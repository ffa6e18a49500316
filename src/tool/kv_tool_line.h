
/*
 * A key and its value as a line of JSON, as GET /keys?values=1 prints it (but
 * for size and version), and as POST /bulk and lines/kv_line.h read it.
 */


#ifndef KV_TOOL_LINE_H
#define KV_TOOL_LINE_H


#include "base/kv_meta.h"


/*
 * Prints it to standard output.  A value that is UTF-8, and has few control
 * characters, is printed as a string, others in base64.  `expires` is in
 * seconds since the epoch; 0: it never does.  `meta` is what is stored beside
 * the value, or NULL.  Errors stay with the stream.
 */
void kv_tool_line_print(const char *key, size_t key_len,
    const kv_meta_t *meta, const char *value, size_t value_len,
    uint64_t expires);


#endif /* KV_TOOL_LINE_H */
