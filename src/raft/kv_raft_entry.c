
/*
 * Entries of the replicated log; see kv_raft_entry.h.
 */


#include "raft/kv_raft_entry.h"


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

    buf.base = (void *) (uintptr_t) e->data;
    buf.len = e->len;

    return raft_configuration_decode(&buf, conf) == 0 ? KV_OK : KV_DAMAGED;
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
