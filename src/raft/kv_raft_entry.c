
/*
 * Entries of the replicated log; see kv_raft_entry.h.
 */


#include "raft/kv_raft_entry.h"


static bool kv_raft_conf_is_whole(const unsigned char *p, size_t len);


void *
kv_raft_alloc(size_t size)
{
    void  *p;

    p = malloc(size);
    assert(p != NULL);

    return p;
}


kv_raft_entry_t *
kv_raft_entry_make(uint64_t term, unsigned type, const void *data, size_t len)
{
    kv_raft_entry_t  *e;

    e = kv_raft_alloc(sizeof(*e) + len);

    e->term = term;
    e->refs = 1;
    e->type = type;
    e->len = len;

    if (len) {
        memcpy(e->data, data, len);
    }

    return e;
}


kv_raft_entry_t *
kv_raft_entry_hold(kv_raft_entry_t *e)
{
    assert(e->refs > 0);
    e->refs++;

    return e;
}


void
kv_raft_entry_drop(kv_raft_entry_t *e)
{
    if (e == NULL) {
        return;
    }

    assert(e->refs > 0);

    if (--e->refs == 0) {
        free(e);
    }
}


kv_raft_entry_t *
kv_raft_conf_make(uint64_t term, const struct raft_configuration *conf)
{
    int                 rc;
    kv_raft_entry_t    *e;
    struct raft_buffer  buf;

    rc = raft_configuration_encode(conf, &buf);
    assert(rc == 0);

    e = kv_raft_entry_make(term, RAFT_CHANGE, buf.base, buf.len);
    raft_free(buf.base);

    return e;
}


kv_raft_entry_t *
kv_raft_conf_members(uint64_t term, const kv_raft_member_t *members,
    unsigned n)
{
    int                        rc;
    unsigned                   i;
    kv_raft_entry_t           *e;
    struct raft_configuration  conf;

    raft_configuration_init(&conf);

    for (i = 0; i < n; i++) {
        rc = raft_configuration_add(&conf, members[i].id, members[i].address,
                                    members[i].role);
        assert(rc == 0);
    }

    e = kv_raft_conf_make(term, &conf);
    raft_configuration_close(&conf);

    return e;
}


kv_rc_t
kv_raft_conf_read(const kv_raft_entry_t *e, struct raft_configuration *conf)
{
    struct raft_buffer  buf;

    if (!kv_raft_conf_is_whole(e->data, e->len)) {
        return KV_DAMAGED;
    }

    buf.base = (void *) (uintptr_t) e->data;
    buf.len = e->len;

    return raft_configuration_decode(&buf, conf) == 0 ? KV_OK : KV_DAMAGED;
}


/*
 * The engine reads on where the bytes end.  They are a version, the number of
 * members in 8 bytes and, of each, its id in 8 bytes, its address, which a zero
 * ends, and its role.
 */

static bool
kv_raft_conf_is_whole(const unsigned char *p, size_t len)
{
    uint64_t              id, n;
    const unsigned char  *end, *zero;

    end = p + len;

    if (len < 1 + sizeof(n)) {
        return false;
    }

    memcpy(&n, p + 1, sizeof(n));

    if (n == 0 || n > KV_RAFT_MEMBERS) {
        return false;
    }

    for (p += 1 + sizeof(n); n; n--) {
        if ((size_t) (end - p) < sizeof(id)) {
            return false;
        }

        memcpy(&id, p, sizeof(id));
        p += sizeof(id);
        zero = memchr(p, 0, end - p);

        if (id == 0 || zero == NULL || zero + 1 == end) {
            return false;
        }

        p = zero + 2;
    }

    return true;
}


kv_rc_t
kv_raft_conf_check(const kv_raft_entry_t *e)
{
    kv_rc_t                    rc;
    struct raft_configuration  conf;

    rc = kv_raft_conf_read(e, &conf);

    if (rc == KV_OK) {
        raft_configuration_close(&conf);
    }

    return rc;
}


unsigned
kv_raft_voters(const struct raft_configuration *conf)
{
    unsigned  i, n;

    for (i = 0, n = 0; i < conf->n; i++) {
        n += conf->servers[i].role == RAFT_VOTER;
    }

    return n;
}


bool
kv_raft_is_alone(const struct raft_configuration *conf, uint64_t id)
{
    unsigned  i;

    for (i = 0; i < conf->n; i++) {
        if (conf->servers[i].role == RAFT_VOTER && conf->servers[i].id != id) {
            return false;
        }
    }

    return kv_raft_voters(conf) == 1;
}
