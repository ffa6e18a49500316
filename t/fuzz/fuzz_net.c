
/*
 * kv_net_frame_read() and kv_net_hello_read().  An input describes a frame: how
 * many of its bytes have come (2), how many bits are wrong (1) and which (2
 * each), its type (2); the rest is its data.
 *
 * What must hold: a frame that is whole and right is read as it was written;
 * one with wrong bits is damaged, or not whole; nothing behind the bytes is
 * read; what a hello says is within it.
 */


#include "fuzz.h"
#include "net/kv_net_private.h"


static void net_check_hello(const kv_net_frame_t *f);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool             wrong;
    kv_rc_t          rc;
    size_t           n, len;
    uint8_t         *p, *had;
    unsigned         bits, type, at;
    fuzz_feed_t      feed = { data, data + size };
    kv_net_frame_t   f;

    n = fuzz_u16(&feed);
    bits = fuzz_u8(&feed) % 4;
    type = fuzz_u16(&feed);
    len = (size_t) (feed.end - feed.p);
    len = len > 2 * bits ? len - 2 * bits : 0;

    p = malloc(KV_NET_OVERHEAD + len);
    had = malloc(KV_NET_OVERHEAD + len);
    fuzz_check(p && had);

    fuzz_bytes(&feed, p + KV_NET_OVERHEAD, len);
    kv_net_frame_write(p, type, len);
    memcpy(had, p, KV_NET_OVERHEAD + len);

    for ( /* void */ ; bits; bits--) {
        at = fuzz_u16(&feed) % (8 * (unsigned) (KV_NET_OVERHEAD + len));
        p[at / 8] ^= (uint8_t) (1u << at % 8);
    }

    wrong = memcmp(p, had, KV_NET_OVERHEAD + len) != 0;
    n = n % 3 ? n % (KV_NET_OVERHEAD + len + 1) : KV_NET_OVERHEAD + len;
    p = realloc(p, n ? n : 1);
    fuzz_check(p);

    rc = kv_net_frame_read(p, n, len, &f);

    if (n < KV_NET_OVERHEAD + len) {
        fuzz_check(rc == KV_AGAIN || (rc == KV_DAMAGED && wrong));

    } else {
        fuzz_check(rc == (wrong ? KV_DAMAGED : KV_OK));
    }

    if (rc == KV_OK) {
        fuzz_check(f.type == type && f.len == len);
        fuzz_check(memcmp(f.data, had + KV_NET_OVERHEAD, len) == 0);
        net_check_hello(&f);
    }

    if (len) {
        fuzz_check(kv_net_frame_read(had, KV_NET_OVERHEAD + len, len - 1, &f)
                   == KV_DAMAGED);
    }

    free(p);
    free(had);

    return 0;
}


static void
net_check_hello(const kv_net_frame_t *f)
{
    size_t          i, name_len, len;
    const char     *name;
    const uint8_t  *data;

    if (kv_net_hello_read(f, &name, &name_len, &data, &len) != KV_OK) {
        return;
    }

    fuzz_check(name_len >= 1 && name_len <= KV_ADDRESS_MAX);
    fuzz_check(len <= KV_NET_HELLO_MAX && 2 + name_len + len == f->len);
    fuzz_check((const uint8_t *) name == f->data + 2);
    fuzz_check(data == f->data + 2 + name_len);

    for (i = 0; i < name_len; i++) {
        fuzz_check(name[i] > ' ' && name[i] <= '~');
    }
}
