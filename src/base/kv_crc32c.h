
/*
 * CRC32C (Castagnoli, polynomial 0x1EDC6F41 reflected), as in RFC 3720,
 * appendix B.4: by the CPU's instruction where there is one (SSE 4.2, ARMv8
 * CRC), else by tables.
 */


#ifndef KV_CRC32C_H
#define KV_CRC32C_H


#include "base/kv_base.h"


/*
 * Continues a checksum over `n` more bytes.  Start with 0; the result of one
 * call is the `crc` of the next, so that crc(a || b) = crc(crc(0, a), b).
 */
uint32_t kv_crc32c(uint32_t crc, const void *data, size_t n);

/* The table-driven form, for machines without the instruction, and tests. */
uint32_t kv_crc32c_table(uint32_t crc, const void *data, size_t n);


#endif /* KV_CRC32C_H */
