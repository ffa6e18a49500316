
/*
 * Keys that all workers write, each for what it has read, or for nothing there,
 * while they die.  Every operation is noted before it is submitted, and what
 * came of it; their parent sees that the LSNs tell of an order in which each
 * condition was true, or false where the worker was told so.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "death_rig.h"


#define FIRST  900000u             /* the id of the first of these keys */


/* What the parent knows of a key, one after the other. */

typedef struct {
    const char  *when;
    uint32_t     key;
    uint64_t     last;             /* LSN of its value, or 0 */
    unsigned     tried;            /* puts without an answer, never read */
    unsigned     puts;             /* of these, what explains nothing yet */
    unsigned     deletes;          /* without an answer; the same */
} walk_t;


uint64_t  death_met;
uint64_t  death_unmet;

static deed_t    *known[DEEDS];    /* those that happened, by LSN */
static unsigned   nknown;
static uint64_t   lsn_of[DEEDS + 1];   /* of a put, by its version */


/* ---- in a worker */


/* Reads the key; sometimes what it had the last time is taken for it. */

static bool
contest_read(host_t *host, deed_t *deed)
{
    char         key[32];
    size_t       n;
    kv_rc_t      rc;
    kv_entry_t  *e;

    static uint64_t  old[CONTESTED];
    static uint32_t  old_version[CONTESTED];

    n = kit_key(FIRST + deed->key, key);
    rc = kv_store_read(host->store, key, n, &e);

    if (rc == KV_OK) {
        deed->read = kv_store_version(host->store, e).lsn;

        if (!kit_check(e, FIRST + deed->key, &deed->read_version)) {
            deed->read_version = 0;
        }

        kv_store_read_done(host->store);
    }

    if (death_rnd(8) == 0 && old[deed->key]) {
        deed->read = old[deed->key];
        deed->read_version = old_version[deed->key];
    }

    old[deed->key] = deed->read;
    old_version[deed->key] = deed->read_version;

    return rc == KV_OK || rc == KV_NOT_FOUND;
}


static void
contest_choose(deed_t *deed)
{
    uint32_t  dice;

    dice = death_rnd(20);

    if (dice < 1) {
        deed->flag = 0;

    } else if (dice < 3) {
        deed->flag = KV_OP_IF_PRESENT;

    } else if (dice < 5 || deed->read == 0) {
        deed->flag = KV_OP_IF_ABSENT;

    } else {
        deed->flag = KV_OP_IF_VERSION;
    }

    deed->code = death_rnd(6) ? KV_OP_PUT : KV_OP_DELETE;
}


deed_t *
death_contest(host_t *host, kv_op_t **op)
{
    char          key[32];
    size_t        n;
    deed_t       *deed;
    kv_rc_t       rc;
    uint32_t      i;
    kv_version_t  v;

    i = atomic_load(&death_shared->deeds);

    if (i >= DEEDS || (i = atomic_fetch_add(&death_shared->deeds, 1)) >= DEEDS)
    {
        return NULL;
    }

    deed = &death_shared->deed[i];
    deed->key = (uint8_t) death_rnd(CONTESTED);

    if (!contest_read(host, deed)) {
        return NULL;
    }

    contest_choose(deed);

    if (deed->code == KV_OP_PUT) {
        rc = kit_begin_put(host, FIRST + deed->key, i + 1, 8 + death_rnd(300),
                           op);

    } else {
        n = kit_key(FIRST + deed->key, key);
        rc = kv_store_delete(host->store, key, (uint16_t) n, op);
    }

    if (rc != KV_OK) {
        return NULL;
    }

    if (deed->flag) {
        v.lsn = deed->read;
        v.incarnation = 0;
        kv_store_if(*op, deed->flag, &v);
    }

    atomic_store(&deed->state, DEED_TRIED);

    return deed;
}


const char *
death_contested(host_t *host, deed_t *deed, const kv_op_t *op, kv_rc_t rc)
{
    switch (rc) {

    case KV_OK:
        deed->lsn = op->lsn;
        atomic_store(&deed->state, DEED_DONE);
        return NULL;

    case KV_PRECONDITION:
        deed->lsn = kv_store_result(host->store, op).lsn;
        atomic_store(&deed->state, DEED_REFUSED);

        return deed->lsn > atomic_load(&host->store->zone->wal.durable_lsn)
               ? "it is refused for a write that is not durable" : NULL;

    default:
        return NULL;
    }
}


/* ---- in their parent */


static void
contest_fail(const walk_t *walk, const deed_t *deed, const char *what)
{
    fail_msg("%s: key %u, %s %u, condition %u on LSN %llu, LSN %llu, after LSN "
             "%llu: %s", walk->when, walk->key,
             deed->code == KV_OP_PUT ? "put" : "delete",
             (unsigned) (deed - death_shared->deed) + 1, deed->flag,
             (unsigned long long) deed->read, (unsigned long long) deed->lsn,
             (unsigned long long) walk->last, what);
}


/* A value that was read: of which put it is, and so which LSN that has. */

static void
contest_learn(const walk_t *walk, const deed_t *deed, uint32_t version,
    uint64_t lsn)
{
    deed_t  *put;

    if (version == 0 || version > DEEDS) {
        contest_fail(walk, deed, "it has read what was never put");
    }

    put = &death_shared->deed[version - 1];

    if (put->key != walk->key || put->code != KV_OP_PUT
        || atomic_load(&put->state) == DEED_REFUSED)
    {
        contest_fail(walk, deed, "it has read what was not put");
    }

    if (lsn_of[version] && lsn_of[version] != lsn) {
        contest_fail(walk, deed, "a put has two LSNs");
    }

    lsn_of[version] = lsn;
}


static int
contest_by_lsn(const void *one, const void *two)
{
    const deed_t  *a = *(deed_t *const *) one, *b = *(deed_t *const *) two;

    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}


/* Collects what happened to a key. */

static void
contest_collect(walk_t *walk)
{
    deed_t    *deed;
    uint32_t   i, n, state;

    nknown = 0;
    memset(lsn_of, 0, sizeof(lsn_of));
    n = kv_min(atomic_load(&death_shared->deeds), DEEDS);

    for (i = 0; i < n; i++) {
        deed = &death_shared->deed[i];
        state = atomic_load(&deed->state);

        if (deed->key != walk->key || state == DEED_NONE) {
            continue;
        }

        if (deed->read) {
            contest_learn(walk, deed, deed->read_version, deed->read);
        }

        if (state == DEED_DONE && deed->code == KV_OP_PUT) {
            contest_learn(walk, deed, i + 1, deed->lsn);
        }
    }

    for (i = 0; i < n; i++) {
        deed = &death_shared->deed[i];
        state = atomic_load(&deed->state);

        if (deed->key != walk->key || state == DEED_NONE
            || state == DEED_REFUSED)
        {
            continue;
        }

        if (state == DEED_TRIED && lsn_of[i + 1] == 0) {
            walk->tried += deed->code == KV_OP_PUT;
            walk->deletes += deed->code == KV_OP_DELETE;
            continue;
        }

        if (state == DEED_TRIED) {
            deed->lsn = lsn_of[i + 1];
        }

        known[nknown++] = deed;
    }

    walk->puts = walk->tried;

    qsort(known, nknown, sizeof(known[0]), contest_by_lsn);
}


/*
 * Whether the key can have had a value, or none, then: if not by what is known,
 * then by a write without an answer, of which each explains one thing.
 */

static bool
contest_explained(walk_t *walk, bool value)
{
    unsigned  *writes;

    if ((walk->last != 0) == value) {
        return true;
    }

    writes = value ? &walk->puts : &walk->deletes;

    if (*writes == 0) {
        return false;
    }

    (*writes)--;

    return true;
}


static void
contest_done(walk_t *walk)
{
    bool      right;
    deed_t   *deed;
    unsigned  i;

    for (i = 0; i < nknown; i++) {
        deed = known[i];

        if (i && deed->lsn == known[i - 1]->lsn) {
            contest_fail(walk, deed, "two have this LSN");
        }

        switch (deed->flag) {

        case KV_OP_IF_VERSION:
            right = walk->last == deed->read;
            break;

        case KV_OP_IF_PRESENT:
            right = contest_explained(walk, true);
            break;

        case KV_OP_IF_ABSENT:
            right = contest_explained(walk, false);
            break;

        default:
            right = true;
        }

        if (!right) {
            contest_fail(walk, deed, "its condition was false");
        }

        walk->last = deed->code == KV_OP_PUT ? deed->lsn : 0;
        death_met += deed->flag != 0;
    }
}


/* The put of that LSN, if it is known. */

static bool
contest_is_put(uint64_t lsn)
{
    deed_t    key, *one, **found;

    key.lsn = lsn;
    one = &key;
    found = bsearch(&one, known, nknown, sizeof(known[0]), contest_by_lsn);

    return found && (*found)->code == KV_OP_PUT;
}


static void
contest_refused(walk_t *walk)
{
    bool       right;
    deed_t    *deed;
    uint32_t   i, n;
    uint64_t   unknown[DEEDS];
    unsigned   k, nunknown;

    n = kv_min(atomic_load(&death_shared->deeds), DEEDS);
    nunknown = 0;

    for (i = 0; i < n; i++) {
        deed = &death_shared->deed[i];

        if (deed->key != walk->key
            || atomic_load(&deed->state) != DEED_REFUSED)
        {
            continue;
        }

        right = deed->flag == KV_OP_IF_VERSION ? deed->lsn != deed->read
              : deed->flag == KV_OP_IF_PRESENT ? deed->lsn == 0
                                               : deed->lsn != 0;

        if (!right) {
            contest_fail(walk, deed, "it was refused, its condition true");
        }

        death_unmet++;

        if (deed->lsn == 0 || contest_is_put(deed->lsn)) {
            continue;
        }

        /* for a put whose worker died: there are no more than were tried */

        for (k = 0; k < nunknown && unknown[k] != deed->lsn; k++) {
            /* void */
        }

        if (k == nunknown) {
            unknown[nunknown++] = deed->lsn;
        }

        if (nunknown > walk->tried) {
            contest_fail(walk, deed, "it was refused for what was never put");
        }
    }
}


void
death_contest_verify(host_t *host, const char *when)
{
    char         key[32];
    deed_t       last;
    walk_t       walk;
    size_t       n;
    kv_rc_t      rc;
    uint32_t     version;
    kv_entry_t  *e;

    memset(&walk, 0, sizeof(walk));
    walk.when = when;

    for (walk.key = 0; walk.key < CONTESTED; walk.key++) {
        walk.last = 0;
        walk.puts = 0;
        walk.deletes = 0;

        contest_collect(&walk);
        contest_done(&walk);
        contest_refused(&walk);

        /* what is there in the end */

        memset(&last, 0, sizeof(last));
        n = kit_key(FIRST + walk.key, key);
        rc = kv_store_read(host->store, key, n, &e);

        if (rc == KV_OK) {
            last.lsn = kv_store_version(host->store, e).lsn;
            assert_true(kit_check(e, FIRST + walk.key, &version));
            kv_store_read_done(host->store);

            contest_learn(&walk, &last, version, last.lsn);

        } else {
            assert_int_equal(rc, KV_NOT_FOUND);
        }

        if (last.lsn != walk.last
            && !(last.lsn > walk.last ? walk.puts
                                      : last.lsn == 0 && walk.deletes))
        {
            contest_fail(&walk, &last, "this is there in the end");
        }
    }
}
