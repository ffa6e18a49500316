
/*
 * A worker as the tests of death start them: it puts, deletes and reads its own
 * keys, contests others (death_contest.c), notes what was acknowledged, and
 * dies as it is told.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/kv_failpoint.h"
#include "death_rig.h"


/* keys beside its own that expire, of which nothing is noted */
#define BRIEF_KEYS 40u


typedef enum {
    FLY_OWN = 0,                     /* a put or a delete of a key of its own */
    FLY_RETURN,                      /* a delete that returns the value */
    FLY_COUNT,                       /* an increment of the common counter */
    FLY_BRIEF,                       /* a put or a touch of one that expires */
    FLY_GROUP,                       /* a put of all the keys of a group, */
    FLY_FALSE,                       /* or one that is to be refused */
    FLY_CONTEST
} fly_t;


typedef struct {
    fly_t      what;
    kv_op_t   *op;
    deed_t    *deed;                 /* of a contested key */
    uint32_t   key;
    uint32_t   version;
} flight_t;


typedef struct {
    host_t     host;
    worker_t  *me;
    flight_t   flight[FLIGHT];
    unsigned   head;
    unsigned   n;
} run_t;


kit_t     death_kit;
uint64_t  death_seed;

static kv_io_t  under;             /* the table that ours is put over */
static order_t  dying;             /* DIE_CALL: what this process is to do */


uint32_t
death_rnd(uint32_t n)
{
    death_seed ^= death_seed << 13;
    death_seed ^= death_seed >> 7;
    death_seed ^= death_seed << 17;

    return (uint32_t) (death_seed >> 16) % n;
}


static uint32_t
mix(uint32_t id, uint32_t version)
{
    uint64_t  x;

    x = ((uint64_t) id << 32 | version) * UINT64_C(0x9e3779b97f4a7c15);

    return (uint32_t) (x >> 33);
}


bool
death_deletes(uint32_t id, uint32_t version)
{
    return version == 0 || mix(id, version) % 8 == 0;
}


static uint32_t
length_of(uint32_t id, uint32_t version)
{
    uint32_t  m;

    m = mix(id, version) / 8;

    /* also what a delete returns */

    if (m % 16 == 0 || (m % 2 == 0 && mix(id, version + 1) % 16 == 0)) {
        return 33000 + m / 16 % 60000;
    }

    return 8 + m % 600;
}


static void
call(call_t call, bool late)
{
    static atomic_int  n;          /* two threads call */

    if (dying.how == DIE_CALL && dying.call == (int) call
        && dying.late == late && atomic_fetch_add(&n, 1) + 1 == dying.after)
    {
        (void) kill(getpid(), SIGKILL);
    }
}


static int
die_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    int  fd;

    if (!(flags & O_CREAT)) {
        return under.open(io, dirfd, name, flags);
    }

    call(CALL_OPEN, false);
    fd = under.open(io, dirfd, name, flags);
    call(CALL_OPEN, true);

    return fd;
}


static int
die_fallocate(kv_io_t *io, int fd, off_t offset, off_t len)
{
    int  rc;

    call(CALL_FALLOCATE, false);
    rc = under.fallocate(io, fd, offset, len);
    call(CALL_FALLOCATE, true);

    return rc;
}


static int
die_fsync(kv_io_t *io, int fd)
{
    int  rc;

    call(CALL_FSYNC, false);
    rc = under.fsync(io, fd);
    call(CALL_FSYNC, true);

    return rc;
}


static int
die_rename(kv_io_t *io, int dirfd, const char *from, const char *to)
{
    int  rc;

    call(CALL_RENAME, false);
    rc = under.rename(io, dirfd, from, to);
    call(CALL_RENAME, true);

    return rc;
}


static int
die_unlink(kv_io_t *io, int dirfd, const char *name)
{
    int  rc;

    call(CALL_UNLINK, false);
    rc = under.unlink(io, dirfd, name);
    call(CALL_UNLINK, true);

    return rc;
}


void
death_open_kit(void)
{
    kit_open(&death_kit, ZONE, PLACES);
    death_kit.io->fast = true;
    death_kit.conf.segment = 256 << 10;
    death_kit.conf.max_value = 100000;
    death_kit.conf.snapshot = 1 << 20;

    under = death_kit.io->io;
    death_kit.io->io.open = die_open;
    death_kit.io->io.fallocate = die_fallocate;
    death_kit.io->io.fsync = die_fsync;
    death_kit.io->io.rename = die_rename;
    death_kit.io->io.unlink = die_unlink;
}


static void
forget(void *data)
{
    run_t  *run = data;

    run->n = 0;
    (void) atomic_fetch_add(&run->me->resets, 1);
}


static void
error(worker_t *me, kv_rc_t rc, const char *what)
{
    (void) snprintf(me->text, sizeof(me->text), "%s: %d", what, rc);
    atomic_store(&me->last_error, (uint32_t) -rc);
    (void) atomic_fetch_add(&me->errors, 1);
}


/*
 * What a delete returns must be what was there: the last version that was done,
 * as this worker alone writes the key.  NULL, or what is wrong.
 */

static const char *
returned(run_t *run, flight_t *f, unsigned base, kv_rc_t rc)
{
    uint32_t   version, low;
    ledger_t  *l;

    l = &run->me->key[f->key];
    low = atomic_load(&l->acked);

    if (rc == KV_NOT_FOUND) {
        for ( /* void */ ; low < f->version; low++) {
            if (death_deletes(base + f->key, low)) {
                return NULL;
            }
        }

        return "a delete found nothing to return";
    }

    if (rc != KV_OK) {
        return NULL;
    }

    if (!kit_check(kv_store_returned(f->op), base + f->key, &version)) {
        return "a delete returned what is torn";
    }

    if (version < low || version >= f->version) {
        return "a delete returned an old value";
    }

    /* as if it was sent */

    if (kv_store_returned(f->op)->flags & KV_ENTRY_PIECES) {
        kv_store_hold(run->host.store, f->op);
    }

    return NULL;
}


/* Each sum is told once, and is no less than what is known to be done. */

static const char *
counted(run_t *run, flight_t *f, kv_rc_t rc)
{
    int64_t  sum;

    if (rc != KV_OK) {
        return NULL;
    }

    sum = kv_store_sum(f->op);

    if (sum <= 0 || sum >= (int64_t) SUMS) {
        return "a sum is out of range";
    }

    if (atomic_exchange(&death_shared->summed[sum], 1)) {
        return "a sum was told twice";
    }

    (void) atomic_fetch_add(&run->me->counter.acked, 1);

    return NULL;
}


static const char *
grouped(run_t *run, flight_t *f, kv_rc_t rc)
{
    if (f->what == FLY_FALSE) {
        return rc == KV_OK ? "a group with a false condition was done" : NULL;
    }

    if (rc == KV_PRECONDITION) {
        return "a group without a false condition was refused";
    }

    if (rc == KV_OK) {

        if (atomic_load(&run->me->group.acked) >= f->version) {
            return "a group was acknowledged twice, or out of order";
        }

        atomic_store(&run->me->group.acked, f->version);
    }

    return NULL;
}


static const char *
judge(run_t *run, flight_t *f, unsigned base, kv_rc_t rc)
{
    switch (f->what) {

    case FLY_CONTEST:
        return death_contested(&run->host, f->deed, f->op, rc);

    case FLY_RETURN:
        return returned(run, f, base, rc);

    case FLY_COUNT:
        return counted(run, f, rc);

    case FLY_GROUP:
    case FLY_FALSE:
        return grouped(run, f, rc);

    default:
        return NULL;
    }
}


static void
complete(run_t *run, unsigned base)
{
    bool         own;
    kv_rc_t      rc;
    flight_t    *f;
    const char  *wrong;

    while (run->n) {
        f = &run->flight[run->head];

        if (!kv_store_done(f->op, &rc)) {
            return;
        }

        wrong = judge(run, f, base, rc);
        own = f->what == FLY_OWN || f->what == FLY_RETURN;

        kv_store_release(run->host.store, f->op);

        if (f->what == FLY_BRIEF && (rc == KV_OK || rc == KV_NOT_FOUND)) {

            /* it may have expired in between */

        } else if (wrong) {
            error(run->me, rc, wrong);

        } else if (!own && (rc == KV_OK || rc == KV_PRECONDITION)) {
            (void) atomic_fetch_add(&run->me->acks, 1);

        } else if (rc == KV_OK
                   || (rc == KV_NOT_FOUND && f->what == FLY_RETURN))
        {
            if (atomic_load(&run->me->key[f->key].acked) >= f->version) {
                error(run->me, rc, "acknowledged twice, or out of order");
            }

            atomic_store(&run->me->key[f->key].acked, f->version);
            (void) atomic_fetch_add(&run->me->acks, 1);

        } else if (rc == KV_UNAVAILABLE) {
            (void) atomic_fetch_add(&run->me->unavailable, 1);

        } else {
            error(run->me, rc, "an operation failed");
        }

        run->head = (run->head + 1) % FLIGHT;
        run->n--;
    }
}


/* Reads a key of its own back, which no other worker writes. */

static void
read_back(run_t *run, unsigned base, uint32_t k)
{
    char         key[32];
    size_t       n;
    kv_rc_t      rc;
    kv_op_t     *op;
    uint32_t     version, low, high;
    kv_entry_t  *e;

    low = atomic_load(&run->me->key[k].acked);
    high = atomic_load(&run->me->key[k].issued);

    n = kit_key(base + k, key);
    rc = kv_store_read(run->host.store, key, n, &e);

    if (rc == KV_UNAVAILABLE || rc == KV_AGAIN) {
        return;
    }

    if (rc == KV_OK) {
        if (!kit_check(e, base + k, &version)) {
            error(run->me, KV_DAMAGED, "torn");

        } else if (version < low || version > high) {
            error(run->me, rc, "an old value came back");
        }

        /* and a large one is sent */

        op = NULL;

        if (e->flags & KV_ENTRY_PIECES
            && kv_store_pin(run->host.store, e, &op) != KV_OK)
        {
            op = NULL;
        }

        kv_store_read_done(run->host.store);

        if (op) {
            kv_store_release(run->host.store, op);
        }

        return;
    }

    while (low <= high && !death_deletes(base + k, low)) {
        low++;
    }

    if (low > high) {
        error(run->me, rc, "an acknowledged value is gone");
    }
}


/* Like submit(), for a contested key. */

static void
contest(run_t *run)
{
    flight_t  *f;

    f = &run->flight[(run->head + run->n) % FLIGHT];
    f->what = FLY_CONTEST;
    f->deed = death_contest(&run->host, &f->op);

    if (f->deed) {
        run->n++;
        host_post_tasks(&run->host, kv_store_submit(run->host.store, f->op));
    }
}


static void
count(run_t *run)
{
    flight_t  *f;

    f = &run->flight[(run->head + run->n) % FLIGHT];
    f->what = FLY_COUNT;

    if (kv_store_increment(run->host.store, COUNTER, sizeof(COUNTER) - 1, 1, 0,
                           &f->op) == KV_OK)
    {
        run->n++;
        (void) atomic_fetch_add(&run->me->counter.issued, 1);
        host_post_tasks(&run->host, kv_store_submit(run->host.store, f->op));
    }
}


/*
 * Whether a delete of the key that returns its value is under way.  One that
 * found nothing is in no log: if the committer dies before it reports that, the
 * next one decides it again, behind what was submitted since.
 */

static bool
returns(const run_t *run, uint32_t k)
{
    unsigned         i;
    const flight_t  *f;

    for (i = 0; i < run->n; i++) {
        f = &run->flight[(run->head + i) % FLIGHT];

        if (f->what == FLY_RETURN && f->key == k) {
            return true;
        }
    }

    return false;
}


static void
submit(run_t *run, unsigned base, uint32_t k)
{
    char       key[32];
    size_t     n;
    kv_rc_t    rc;
    uint32_t   version;
    flight_t  *f;

    if (returns(run, k)) {
        host_process_events(&run->host, 2);
        return;
    }

    version = atomic_load(&run->me->key[k].issued) + 1;
    f = &run->flight[(run->head + run->n) % FLIGHT];
    f->what = FLY_OWN;

    if (death_deletes(base + k, version)) {
        n = kit_key(base + k, key);
        rc = kv_store_delete(run->host.store, key, (uint16_t) n, &f->op);

        if (rc == KV_OK && mix(base + k, version) % 16 == 0) {
            f->what = FLY_RETURN;
            kv_store_return(f->op);
        }

    } else {
        rc = kit_begin_put(&run->host, base + k, version,
                           length_of(base + k, version), &f->op);
    }

    if (rc == KV_UNAVAILABLE) {
        (void) atomic_fetch_add(&run->me->unavailable, 1);
        host_process_events(&run->host, 2);
        return;
    }

    if (rc != KV_OK) {
        error(run->me, rc, "an operation could not begin");
        return;
    }

    f->key = k;
    f->version = version;
    run->n++;

    atomic_store(&run->me->key[k].issued, version);

    host_post_tasks(&run->host, kv_store_submit(run->host.store, f->op));
}


/*
 * A put of all the keys of the group, of the same version.  With one more of
 * the first key, if that has none, it is to be refused.
 */

static void
submit_group(run_t *run, unsigned base)
{
    bool        wrong;
    kv_rc_t     rc;
    kv_op_t    *op;
    uint32_t    i, version;
    flight_t   *f;
    kv_group_t  group;

    f = &run->flight[(run->head + run->n) % FLIGHT];
    wrong = death_rnd(4) == 0;
    version = wrong ? UINT32_MAX : atomic_load(&run->me->group.issued) + 1;

    rc = kv_store_group(run->host.store, &group);

    if (rc != KV_OK) {
        host_process_events(&run->host, 2);
        return;
    }

    for (i = 0; i < GROUPED + wrong; i++) {
        rc = kit_begin_put(&run->host, base + GROUP_ID + i % GROUPED, version,
                           length_of(base + i, version), &op);

        if (rc != KV_OK) {
            kv_store_release(run->host.store, group.op);
            host_process_events(&run->host, 2);
            return;
        }

        if (i == GROUPED) {
            kv_store_if(op, KV_OP_IF_ABSENT, NULL);
        }

        (void) kv_store_group_add(run->host.store, &group, op);
    }

    f->what = wrong ? FLY_FALSE : FLY_GROUP;
    f->op = group.op;
    f->version = version;
    run->n++;

    if (!wrong) {
        atomic_store(&run->me->group.issued, version);
    }

    host_post_tasks(&run->host, kv_store_submit(run->host.store, group.op));
}


/* Who has seen one key of a group sees the others, in any worker. */

static void
read_group(run_t *run, uint32_t w)
{
    kv_rc_t    rc;
    uint32_t   i, version, last, issued;
    ledger_t  *l;

    l = &death_shared->worker[w].group;
    last = atomic_load(&l->acked);

    for (i = 0; i < GROUPED; i++) {
        rc = kit_get(&run->host, w * 1000 + GROUP_ID + i, &version, NULL);
        issued = atomic_load(&l->issued);

        if (rc == KV_AGAIN || rc == KV_UNAVAILABLE) {
            return;
        }

        if (rc == KV_NOT_FOUND && last == 0) {
            continue;
        }

        if (rc != KV_OK || version < last || version > issued) {
            error(run->me, rc, "a group is seen in part");
            return;
        }

        last = version;
    }
}


/* A put or a touch of a key that expires within some milliseconds. */

static void
submit_brief(run_t *run, unsigned base)
{
    char       key[32];
    size_t     n;
    kv_rc_t    rc;
    uint32_t   id;
    flight_t  *f;

    f = &run->flight[(run->head + run->n) % FLIGHT];
    id = base + KEYS + death_rnd(BRIEF_KEYS);

    if (death_rnd(3) == 0) {
        n = kit_key(id, key);
        rc = kv_store_touch(run->host.store, key, (uint16_t) n, 1, &f->op);

    } else {
        rc = kit_begin_ttl(&run->host, id, 1, length_of(id, death_rnd(1000)),
                           death_rnd(4) != 0, &f->op);
    }

    if (rc != KV_OK) {
        host_process_events(&run->host, 2);
        return;
    }

    if (kv_entry_expires(f->op->entry)) {
        kv_entry_set_expires(f->op->entry, 1 + death_rnd(50));
    }

    f->what = FLY_BRIEF;
    run->n++;

    host_post_tasks(&run->host, kv_store_submit(run->host.store, f->op));
}


static void
die(run_t *run, const order_t *order)
{
    kv_rc_t      rc;
    kv_op_t     *op;
    char         key[32];
    size_t       n;
    kv_entry_t  *e;

    static char  data[150000];

    switch (order->how) {

    case DIE_HEAP:
        (void) kv_heap_lock(run->host.store->zone->heap);
        break;

    case DIE_BUILDING:
        (void) kv_store_put(run->host.store, "unfinished", 10,
                            KV_LENGTH_UNKNOWN, 0, &op);
        (void) kv_store_write(run->host.store, op, 0, data, 90000);
        (void) kv_store_put(run->host.store, "unfinished", 10, 90000, 0, &op);
        (void) kv_store_put(run->host.store, "unfinished", 10, 90, 0, &op);
        (void) kit_upload(run->host.store, "unfinished", 150000, 10, &op);
        (void) kv_store_write(run->host.store, op, 0, data, 80000);
        break;

    case DIE_PINNED:
    case DIE_EPOCH:
        do {
            rc = kit_begin_put(&run->host, 1000000, 1, 90000, &op);

            if (rc == KV_OK) {
                rc = host_run(&run->host, op);
            }

        } while (rc != KV_OK);

        n = kit_key(1000000, key);

        if (kv_store_read(run->host.store, key, n, &e) != KV_OK) {
            error(run->me, KV_NOT_FOUND, "the victim's own key");
        }

        if (order->how == DIE_PINNED) {
            if (kv_store_pin(run->host.store, e, &op) != KV_OK) {
                error(run->me, KV_ERROR, "no pin");
            }

            kv_store_read_done(run->host.store);
        }

        break;

    default:
        return;
    }

    (void) kill(getpid(), SIGKILL);
}


bool
death_leaves(const order_t *order)
{
    return order->how == DIE_FAILPOINT
           && strcmp(order->failpoint, "LEAVING") == 0;
}


static void
submit_any(run_t *run, uint32_t base)
{
    if (death_rnd(4) == 0) {
        contest(run);

    } else if (death_rnd(8) == 0) {
        count(run);

    } else if (death_rnd(6) == 0) {
        submit_brief(run, base);

    } else if (death_rnd(8) == 0) {
        submit_group(run, base);

    } else {
        submit(run, base, death_rnd(KEYS));
    }
}


static void
work(unsigned number, const order_t *order)
{
    bool          alone;
    run_t         run;
    uint32_t      base, left;
    kv_figures_t  figures;

    memset(&run, 0, sizeof(run));
    run.me = &death_shared->worker[number];
    base = number * 1000;
    death_seed += (uint64_t) getpid() << 20;

    if (order && order->how == DIE_FAILPOINT) {
        kv_failpoint_arm(order->failpoint, order->after);
    }

    /* places of the dead are free again when the living have reaped them */

    while (host_start(&run.host, death_kit.store) != KV_OK) {
        if (atomic_load(&death_shared->stop)) {
            _exit(0);
        }

        (void) usleep(1000);
    }

    run.host.on_reset = forget;
    run.host.ctx = &run;

    if (order && order->how == DIE_CALL) {
        dying = *order;
    }

    host_process_events(&run.host, 0);

    left = order && (order->how > DIE_CALL || death_leaves(order)) ? 200
                                                                   : UINT32_MAX;

    while (!atomic_load(&death_shared->stop)) {

        run.host.no_background = atomic_load(&death_shared->background)
                                 && atomic_load(&death_shared->background)
                                    != (int) number + 1;

        alone = atomic_load(&death_shared->rest);

        if (run.n < FLIGHT && death_rnd(8) && (order || !alone)) {

            /* a committer that spins would commit the next write as well */

            if (alone && atomic_load(&death_kit.store->zone->committer)) {
                host_process_events(&run.host, 1);

            } else {
                submit_any(&run, base);
            }

        } else if (run.n == FLIGHT) {
            host_process_events(&run.host, KV_STORE_WATCH);

        } else {
            host_process_events(&run.host, alone && !order ? 10 : 0);
        }

        complete(&run, base);
        read_back(&run, base, death_rnd(KEYS));
        read_group(&run, death_rnd(WORKERS));

        if (death_rnd(32) == 0) {
            kv_store_figures(run.host.store, &figures);
        }

        if (left-- == 0) {

            if (order->how == DIE_LEAVE || death_leaves(order)) {
                host_post_tasks(&run.host, kv_store_todo(run.host.store));
                (void) host_stop(&run.host);
                _exit(0);
            }

            die(&run, order);
        }
    }

    while (run.n) {
        host_process_events(&run.host, KV_STORE_WATCH);
        complete(&run, base);
    }

    if (!host_stop(&run.host)) {
        error(run.me, KV_BUSY, "a thread did not end");
    }

    _exit(0);
}


pid_t
death_spawn(unsigned number, const order_t *order)
{
    pid_t  pid;

    pid = death_child();

    if (pid == 0) {
        work(number, order);
    }

    return pid;
}
