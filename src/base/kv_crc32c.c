
/*
 * CRC32C.  The tables and constants are made once, before main() or when the
 * module is loaded, so that no thread ever waits or checks for them.
 */


#include "base/kv_crc32c.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif


#define KV_CRC32C_POLY   0x82f63b78u       /* reflected */

/* Bytes of a lane: three are summed at once, to hide the latency. */
#define KV_CRC32C_LONG   1024
#define KV_CRC32C_SHORT  128


static void kv_crc32c_init(void) __attribute__((constructor));
#if defined(__x86_64__)
static uint32_t kv_crc32c_power(unsigned n);
#endif


static uint32_t  kv_crc32c_tables[8][256];


#if defined(__x86_64__)

/*
 * [0] moves a sum over one lane, [1] over two: the remainder of x^(8n - 33),
 * where 33 is what the carry-less product and the instruction add.
 */
static uint64_t  kv_crc32c_long[2];
static uint64_t  kv_crc32c_short[2];
static bool      kv_crc32c_hardware;


#define kv_crc32c_load(p)                                                     \
    ({ uint64_t  word_; memcpy(&word_, (p), 8); word_; })


__attribute__((target("sse4.2,pclmul")))
static inline uint64_t
kv_crc32c_move(uint64_t crc, uint64_t power)
{
    return (uint64_t) _mm_cvtsi128_si64(
        _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long) crc),
                             _mm_cvtsi64_si128((long long) power), 0));
}


__attribute__((target("sse4.2,pclmul")))
static inline uint64_t
kv_crc32c_lanes(uint64_t crc, const uint8_t *p, size_t lane,
    const uint64_t *power)
{
    size_t    i;
    uint64_t  crc1, crc2;

    crc1 = 0;
    crc2 = 0;

    for (i = 0; i < lane; i += 8) {
        crc = _mm_crc32_u64(crc, kv_crc32c_load(p + i));
        crc1 = _mm_crc32_u64(crc1, kv_crc32c_load(p + lane + i));
        crc2 = _mm_crc32_u64(crc2, kv_crc32c_load(p + 2 * lane + i));
    }

    return crc2 ^ _mm_crc32_u64(0, kv_crc32c_move(crc, power[1])
                                   ^ kv_crc32c_move(crc1, power[0]));
}


__attribute__((target("sse4.2,pclmul")))
static uint32_t
kv_crc32c_sse42(uint32_t crc32, const void *data, size_t n)
{
    uint64_t        crc;
    const uint8_t  *p;

    p = data;
    crc = ~crc32;

    while (n >= 3 * KV_CRC32C_LONG) {
        crc = kv_crc32c_lanes(crc, p, KV_CRC32C_LONG, kv_crc32c_long);
        p += 3 * KV_CRC32C_LONG;
        n -= 3 * KV_CRC32C_LONG;
    }

    while (n >= 3 * KV_CRC32C_SHORT) {
        crc = kv_crc32c_lanes(crc, p, KV_CRC32C_SHORT, kv_crc32c_short);
        p += 3 * KV_CRC32C_SHORT;
        n -= 3 * KV_CRC32C_SHORT;
    }

    for ( /* void */ ; n >= 8; n -= 8, p += 8) {
        crc = _mm_crc32_u64(crc, kv_crc32c_load(p));
    }

    for ( /* void */ ; n > 0; n--, p++) {
        crc = _mm_crc32_u8((uint32_t) crc, *p);
    }

    return ~(uint32_t) crc;
}


uint32_t
kv_crc32c(uint32_t crc, const void *data, size_t n)
{
    if (kv_likely(kv_crc32c_hardware)) {
        return kv_crc32c_sse42(crc, data, n);
    }

    return kv_crc32c_table(crc, data, n);
}


#elif defined(__aarch64__) && defined(__linux__)

#define KV_CRC32C_HWCAP  (1 << 7)          /* HWCAP_CRC32 */


static bool  kv_crc32c_hardware;


static uint32_t
kv_crc32c_armv8(uint32_t crc, const void *data, size_t n)
{
    uint64_t        word;
    const uint8_t  *p;

    p = data;
    crc = ~crc;

    for ( /* void */ ; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1"
                : "+r" (crc) : "r" (word));
    }

    for ( /* void */ ; n > 0; n--, p++) {
        __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1"
                : "+r" (crc) : "r" ((uint32_t) *p));
    }

    return ~crc;
}


uint32_t
kv_crc32c(uint32_t crc, const void *data, size_t n)
{
    if (kv_likely(kv_crc32c_hardware)) {
        return kv_crc32c_armv8(crc, data, n);
    }

    return kv_crc32c_table(crc, data, n);
}


#else

uint32_t
kv_crc32c(uint32_t crc, const void *data, size_t n)
{
    return kv_crc32c_table(crc, data, n);
}

#endif


uint32_t
kv_crc32c_table(uint32_t crc, const void *data, size_t n)
{
    uint32_t         high;
    const uint8_t   *p;
    const uint32_t  (*t)[256];

    p = data;
    t = (const uint32_t (*)[256]) kv_crc32c_tables;
    crc = ~crc;

    for ( /* void */ ; n >= 8; n -= 8, p += 8) {
        crc ^= p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16
               | (uint32_t) p[3] << 24;
        high = p[4] | (uint32_t) p[5] << 8 | (uint32_t) p[6] << 16
               | (uint32_t) p[7] << 24;

        crc = t[7][crc & 0xff] ^ t[6][crc >> 8 & 0xff]
              ^ t[5][crc >> 16 & 0xff] ^ t[4][crc >> 24]
              ^ t[3][high & 0xff] ^ t[2][high >> 8 & 0xff]
              ^ t[1][high >> 16 & 0xff] ^ t[0][high >> 24];
    }

    for ( /* void */ ; n > 0; n--, p++) {
        crc = crc >> 8 ^ t[0][(crc ^ *p) & 0xff];
    }

    return ~crc;
}


static void
kv_crc32c_init(void)
{
    uint32_t  crc;
    unsigned  i, k;

    for (i = 0; i < 256; i++) {
        crc = i;

        for (k = 0; k < 8; k++) {
            crc = crc >> 1 ^ (crc & 1 ? KV_CRC32C_POLY : 0);
        }

        kv_crc32c_tables[0][i] = crc;
    }

    for (k = 1; k < 8; k++) {
        for (i = 0; i < 256; i++) {
            crc = kv_crc32c_tables[k - 1][i];
            kv_crc32c_tables[k][i] = crc >> 8 ^ kv_crc32c_tables[0][crc & 0xff];
        }
    }

#if defined(__x86_64__)

    for (k = 0; k < 2; k++) {
        kv_crc32c_long[k] = kv_crc32c_power(8 * KV_CRC32C_LONG * (k + 1) - 33);
        kv_crc32c_short[k] = kv_crc32c_power(8 * KV_CRC32C_SHORT * (k + 1)
                                             - 33);
    }

    __builtin_cpu_init();
    kv_crc32c_hardware = __builtin_cpu_supports("sse4.2")
                         && __builtin_cpu_supports("pclmul");

#elif defined(__aarch64__) && defined(__linux__)

    kv_crc32c_hardware = (getauxval(AT_HWCAP) & KV_CRC32C_HWCAP) != 0;

#endif
}


#if defined(__x86_64__)

/* The remainder of x^n, reflected. */

static uint32_t
kv_crc32c_power(unsigned n)
{
    uint32_t  power;

    power = 0x80000000u;

    while (n--) {
        power = power >> 1 ^ (power & 1 ? KV_CRC32C_POLY : 0);
    }

    return power;
}

#endif
