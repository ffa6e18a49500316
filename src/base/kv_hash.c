
/*
 * SipHash-1-3; see kv_hash.h.
 */


#include "base/kv_hash.h"


#define kv_rotl(x, b)  (((x) << (b)) | ((x) >> (64 - (b))))


#define kv_sip_round(v0, v1, v2, v3)                                          \
    v0 += v1; v1 = kv_rotl(v1, 13); v1 ^= v0; v0 = kv_rotl(v0, 32);           \
    v2 += v3; v3 = kv_rotl(v3, 16); v3 ^= v2;                                 \
    v0 += v3; v3 = kv_rotl(v3, 21); v3 ^= v0;                                 \
    v2 += v1; v1 = kv_rotl(v1, 17); v1 ^= v2; v2 = kv_rotl(v2, 32)


uint64_t
kv_hash(const uint64_t seed[2], const void *key, size_t n)
{
    size_t          left;
    uint64_t        v0, v1, v2, v3, m;
    const uint8_t  *p, *end;

    v0 = seed[0] ^ 0x736f6d6570736575ULL;
    v1 = seed[1] ^ 0x646f72616e646f6dULL;
    v2 = seed[0] ^ 0x6c7967656e657261ULL;
    v3 = seed[1] ^ 0x7465646279746573ULL;

    p = key;
    left = n & 7;
    end = p + (n - left);

    for ( /* void */ ; p != end; p += 8) {
        memcpy(&m, p, 8);

        v3 ^= m;
        kv_sip_round(v0, v1, v2, v3);
        v0 ^= m;
    }

    m = 0;
    memcpy(&m, p, left);
    m |= (uint64_t) n << 56;

    v3 ^= m;
    kv_sip_round(v0, v1, v2, v3);
    v0 ^= m;

    v2 ^= 0xff;
    kv_sip_round(v0, v1, v2, v3);
    kv_sip_round(v0, v1, v2, v3);
    kv_sip_round(v0, v1, v2, v3);

    return v0 ^ v1 ^ v2 ^ v3;
}
