
/*
 * Processes that die: several workers share a zone and a directory, and one
 * is killed at a named point, before or after a call to the disk, with a
 * lock, while it builds or reads, or anywhere.  The others go on within a
 * second, what was acknowledged is there, in memory and on disk, and what the
 * dead one had is freed to the byte.
 *
 * Every point in kv_failpoint.h is reached: who adds one sees test_all_reached
 * fail until a test here dies there.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kit.h"
#include "base/kv_failpoint.h"
#include "disk/kv_snapshot.h"


#define WORKERS     3
#define KEYS        60u            /* each worker's */
#define FLIGHT      8u             /* operations at a time */
#define ZONE        ((size_t) 16 << 20)
#define SLOTS       8
#define PATIENCE    5000           /* ms until something is called a hang */
#define STUCK       30000          /* ms in which the victim does nothing */
#define ENOUGH      20000          /* writes of the victim to reach its point */
#define ALONE       200            /* ms until the victim is left alone */
#define SOON        1000           /* ms until the others must have gone on */
#define CHILDREN    16             /* at a time, at most */


/*
 * What each key's owner did: all versions up to `issued` were submitted, up
 * to `acked` they were acknowledged.  A version's content follows from it.
 */

typedef struct {
    _Atomic uint32_t  issued;
    _Atomic uint32_t  acked;
} ledger_t;


typedef struct {
    _Atomic uint64_t  acks;
    _Atomic uint64_t  unavailable;
    _Atomic uint32_t  resets;
    _Atomic uint32_t  errors;
    _Atomic uint32_t  last_error;
    char              text[256];
    ledger_t          key[KEYS];
} worker_t;


typedef struct {
    _Atomic int       stop;
    _Atomic int       background;  /* victim + 1: only it does that work */
    _Atomic int       rest;        /* the others begin nothing new */
    worker_t          worker[WORKERS];
} shared_t;


typedef enum {
    DIE_POINT = 0,
    DIE_CALL,                      /* at a call to the disk */
    DIE_HEAP,
    DIE_BUILDING,
    DIE_PINNED,
    DIE_EPOCH,
    DIE_LEAVE                      /* gives its slot back in full flight */
} death_t;


/* What a worker that is to die knows. */

typedef struct {
    death_t      how;
    const char  *point;
    int          call;             /* call_t */
    bool         late;             /* when the call has been made */
    int          after;
} order_t;


/* Calls to the disk; those that write and sync a batch have points. */

typedef enum {
    CALL_OPEN = 0,                 /* that makes a file */
    CALL_FALLOCATE,
    CALL_FSYNC,
    CALL_RENAME,
    CALL_UNLINK,
    CALLS
} call_t;


typedef struct {
    kv_op_t   *op;
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


static kit_t      death_kit;
static shared_t  *death_shared;
static uint64_t   death_seed;
static pid_t      children[CHILDREN];
static kv_io_t    under;           /* the table that ours is put over */
static order_t    dying;           /* DIE_CALL: what this process is to do */
static bool       death_reached[KV_FAILPOINTS];
static uint64_t   death_slowest;   /* ms until all others had gone on */
static uint64_t   death_most_acks;  /* of a victim, when it came to its point */


static uint32_t
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


/* A version that deletes; 0, before the first, is one. */

static bool
death_deletes(uint32_t id, uint32_t version)
{
    return version == 0 || mix(id, version) % 8 == 0;
}


static uint32_t
length_of(uint32_t id, uint32_t version)
{
    uint32_t  m;

    m = mix(id, version) / 8;

    if (m % 16 == 0) {
        return 33000 + m / 16 % 60000;
    }

    return 8 + m % 600;
}


static void
death_mark(const char *name)
{
    int  i;

    for (i = 0; i < KV_FAILPOINTS; i++) {
        if (strcmp(kv_failpoint_name(i), name) == 0) {
            death_reached[i] = true;
        }
    }
}


/* ---- the disk */


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


static void
death_open_kit(void)
{
    kit_open(&death_kit, ZONE, SLOTS);
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


static int
death_setup(void **state)
{
    (void) state;

    death_seed = 88172645463325252ull;

    death_shared = mmap(NULL, sizeof(shared_t), PROT_READ|PROT_WRITE,
                        MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    if (death_shared == MAP_FAILED) {
        return -1;
    }

    death_open_kit();

    return 0;
}


/* A process of ours, which is ended if the test fails. */

static pid_t
death_child(void)
{
    pid_t     pid;
    unsigned  i;

    for (i = 0; children[i]; i++) {
        assert_true(i + 1 < CHILDREN);
    }

    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);

    } else {
        children[i] = pid;
    }

    return pid;
}


static void
reaped(pid_t pid)
{
    unsigned  i;

    for (i = 0; i < CHILDREN; i++) {
        if (children[i] == pid) {
            children[i] = 0;
        }
    }
}


static int
death_teardown(void **state)
{
    unsigned  i;

    (void) state;

    for (i = 0; i < CHILDREN; i++) {
        if (children[i]) {
            (void) kill(children[i], SIGKILL);
            (void) waitpid(children[i], NULL, 0);
            children[i] = 0;
        }
    }

    kit_close(&death_kit);

    return munmap(death_shared, sizeof(shared_t));
}


/* ---- the worker */


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


static void
deliver(run_t *run)
{
    kv_rc_t    rc;
    flight_t  *f;

    while (run->n) {
        f = &run->flight[run->head];

        if (!kv_store_done(f->op, &rc)) {
            return;
        }

        kv_store_release(run->host.store, f->op);

        if (rc == KV_OK) {
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


/* Its own keys are read back: nobody else writes them. */

static void
look(run_t *run, unsigned base, uint32_t k)
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

    if (rc == KV_UNAVAILABLE) {
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


static void
submit(run_t *run, unsigned base, uint32_t k)
{
    char       key[32];
    size_t     n;
    kv_rc_t    rc;
    uint32_t   version;
    flight_t  *f;

    version = atomic_load(&run->me->key[k].issued) + 1;
    f = &run->flight[(run->head + run->n) % FLIGHT];

    if (death_deletes(base + k, version)) {
        n = kit_key(base + k, key);
        rc = kv_store_delete(run->host.store, key, (uint16_t) n, &f->op);

    } else {
        rc = kit_begin_put(&run->host, base + k, version,
                           length_of(base + k, version), &f->op);
    }

    if (rc == KV_UNAVAILABLE) {
        (void) atomic_fetch_add(&run->me->unavailable, 1);
        host_turn(&run->host, 2);
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

    host_do(&run->host, kv_store_submit(run->host.store, f->op));
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
                            KV_LENGTH_UNKNOWN, &op);
        (void) kv_store_write(run->host.store, op, 0, data, 90000);
        (void) kv_store_put(run->host.store, "unfinished", 10, 90000, &op);
        (void) kv_store_put(run->host.store, "unfinished", 10, 90, &op);
        (void) kv_store_upload(run->host.store, "unfinished", 10, 150000, 10,
                               &op);
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


/* Points on the way out. */

static bool
death_leaves(const order_t *order)
{
    return order->how == DIE_POINT && strcmp(order->point, "LEAVING") == 0;
}


static void
work(unsigned number, const order_t *order)
{
    bool      alone;
    run_t     run;
    uint32_t  base, left;

    memset(&run, 0, sizeof(run));
    run.me = &death_shared->worker[number];
    base = number * 1000;
    death_seed += (uint64_t) getpid() << 20;

    if (order && order->how == DIE_POINT) {
        kv_failpoint_arm(order->point, order->after);
    }

    /* slots of the dead come back when the living have reaped them */

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

    host_turn(&run.host, 0);

    left = order && (order->how > DIE_CALL || death_leaves(order)) ? 200
                                                                   : UINT32_MAX;

    while (!atomic_load(&death_shared->stop)) {

        run.host.no_background = atomic_load(&death_shared->background)
                                 && atomic_load(&death_shared->background)
                                    != (int) number + 1;

        alone = atomic_load(&death_shared->rest);

        if (run.n < FLIGHT && death_rnd(8) && (order || !alone)) {

            /* a committer that lingers would keep the role for the next */

            if (alone && atomic_load(&death_kit.store->zone->committer)) {
                host_turn(&run.host, 1);

            } else {
                submit(&run, base, death_rnd(KEYS));
            }

        } else if (run.n == FLIGHT) {
            host_turn(&run.host, KV_STORE_WATCH);

        } else {
            host_turn(&run.host, alone && !order ? 10 : 0);
        }

        deliver(&run);
        look(&run, base, death_rnd(KEYS));

        if (left-- == 0) {

            if (order->how == DIE_LEAVE || death_leaves(order)) {
                host_do(&run.host, kv_store_todo(run.host.store));
                (void) host_stop(&run.host);
                _exit(0);
            }

            die(&run, order);
        }
    }

    while (run.n) {
        host_turn(&run.host, KV_STORE_WATCH);
        deliver(&run);
    }

    if (!host_stop(&run.host)) {
        error(run.me, KV_BUSY, "a thread did not end");
    }

    _exit(0);
}


static pid_t
death_spawn(unsigned number, const order_t *order)
{
    pid_t  pid;

    pid = death_child();

    if (pid == 0) {
        work(number, order);
    }

    return pid;
}


/* ---- the parent */


/* The status, or -1 if it did not end in time. */

static int
death_wait_for(pid_t pid, int ms)
{
    int       status;
    uint64_t  end;

    end = kit_now_ms() + (uint64_t) ms;

    while (waitpid(pid, &status, WNOHANG) != pid) {
        if (kit_now_ms() > end) {
            return -1;
        }

        (void) usleep(500);
    }

    reaped(pid);

    return status;
}


/*
 * The victim's status.  As long as there is work another can be the committer
 * all the time: now and then the victim is left alone, and then it writes
 * only when the role is free, and so is given it.  How soon it gets to its
 * point is the machine's affair, with how many writes is not.
 */

static int
wait_for_victim(pid_t pid)
{
    int       status;
    uint64_t  end, acks, last;

    last = 0;
    end = kit_now_ms() + STUCK;
    status = death_wait_for(pid, ALONE);

    while (status == -1 && kit_now_ms() < end && last < ENOUGH) {
        atomic_store(&death_shared->rest, !atomic_load(&death_shared->rest));
        status = death_wait_for(pid, ALONE);
        acks = atomic_load(&death_shared->worker[0].acks);

        if (acks != last) {
            last = acks;
            end = kit_now_ms() + STUCK;
        }
    }

    atomic_store(&death_shared->rest, 0);
    death_most_acks = kv_max(death_most_acks,
                             atomic_load(&death_shared->worker[0].acks));

    return status;
}


static bool
death_killed(int status)
{
    return status != -1 && WIFSIGNALED(status)
           && WTERMSIG(status) == SIGKILL;
}


/* What the ledger says must be there is, through a worker's eyes. */

static void
verify(host_t *host, const char *when)
{
    kv_rc_t    rc;
    uint32_t   w, k, id, low, high, version;
    ledger_t  *l;

    for (w = 0; w < WORKERS; w++) {

        for (k = 0; k < KEYS; k++) {
            l = &death_shared->worker[w].key[k];
            id = w * 1000 + k;
            low = atomic_load(&l->acked);
            high = atomic_load(&l->issued);

            rc = kit_get(host, id, &version, NULL);

            if (rc == KV_NOT_FOUND) {

                while (low <= high && !death_deletes(id, low)) {
                    low++;
                }

                if (low <= high) {
                    continue;
                }
            }

            if (rc != KV_OK || version < low || version > high
                || death_deletes(id, version))
            {
                fail_msg("%s: key %u: rc %d, version %u, acknowledged %u, "
                         "issued %u", when, id, rc, rc ? 0 : version,
                         atomic_load(&l->acked), high);
            }
        }
    }
}


static void
verify_all(const char *when)
{
    host_t       host;
    const char  *wrong;
    uint64_t     end;

    end = kit_now_ms() + PATIENCE;

    while (host_start(&host, death_kit.store) != KV_OK) {
        assert_true(kit_now_ms() < end);
        (void) usleep(1000);
    }

    wrong = kit_settle(&host);

    if (wrong) {
        fail_msg("%s: %s", when, wrong);
    }

    verify(&host, when);

    assert_int_equal(!kv_state_writes(death_kit.store->zone), 0);
    assert_true(host_stop(&host));

    /* and again from disk */

    kit_stop(&death_kit);

    if (kit_start(&death_kit) != KV_OK) {
        fail_msg("%s: %s", when, death_kit.err.text);
    }

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    verify(&host, when);

    wrong = kit_settle(&host);

    if (wrong) {
        fail_msg("%s, restarted: %s", when, wrong);
    }

    assert_true(host_stop(&host));
    kit_stop(&death_kit);
}


static void
dump(void)
{
    unsigned    i;
    kv_zone_t  *zone;

    zone = death_kit.store->zone;

    (void) fprintf(stderr, "state %u, phase %u, failed %u, generation %llu, "
                   "queue %p, taken %p, committer %u, background %u, wants "
                   "%u, reap %u, heap %s, limbo %u, old %u, next LSN %llu, "
                   "applied %llu\n",
                   atomic_load(&zone->state), atomic_load(&zone->phase),
                   !kv_state_writes(zone),
                   (unsigned long long) atomic_load(&zone->generation),
                   (void *) atomic_load(&zone->queue),
                   (void *) atomic_load(&zone->taken),
                   atomic_load(&zone->committer),
                   atomic_load(&zone->background),
                   atomic_load(&zone->requests), atomic_load(&zone->reap),
                   kv_heap_broken(zone->heap) ? "broken" : "whole",
                   kv_epoch_count(&zone->retired), atomic_load(&zone->map.old),
                   (unsigned long long) atomic_load(&zone->wal.next_lsn),
                   (unsigned long long) atomic_load(&zone->applied_lsn));

    for (i = 0; i < zone->nworkers; i++) {
        (void) fprintf(stderr, "slot %u: in use %u, pid %d, generation %llu, "
                       "epochs %llu %llu\n", i,
                       atomic_load(&zone->workers[i].in_use),
                       atomic_load(&zone->workers[i].pid),
                       (unsigned long long)
                       atomic_load(&zone->workers[i].generation),
                       (unsigned long long)
                       atomic_load(&zone->workers[i].epoch[0].value),
                       (unsigned long long)
                       atomic_load(&zone->workers[i].epoch[1].value));
    }
}


/* Collects the dead; 0 in `pid` is one to be replaced. */

static unsigned
collect(pid_t *pid, const char *when)
{
    int       status;
    pid_t     gone;
    unsigned  w, deaths;

    deaths = 0;

    while ((gone = waitpid(-1, &status, WNOHANG)) > 0) {

        for (w = 0; w < WORKERS && pid[w] != gone; w++) {
            /* void */
        }

        if (w == WORKERS || !death_killed(status)) {
            fail_msg("%s: a worker ended with %x", when, status);
        }

        reaped(gone);
        pid[w] = 0;
        deaths++;
    }

    return deaths;
}


static void
replace(pid_t *pid)
{
    unsigned  w;

    for (w = 0; w < WORKERS; w++) {
        if (pid[w] == 0) {
            pid[w] = death_spawn(w, NULL);
        }
    }
}


/* Every one in the set gets so much further, after some more deaths maybe. */

static void
progress(pid_t *pid, unsigned from, const char *when)
{
    unsigned  w;
    uint64_t  acks[WORKERS], end;

    for (w = from; w < WORKERS; w++) {
        acks[w] = atomic_load(&death_shared->worker[w].acks);
    }

    end = kit_now_ms() + PATIENCE;

    for (w = from; w < WORKERS; w++) {

        while (atomic_load(&death_shared->worker[w].acks) < acks[w] + 20) {
            if (kit_now_ms() > end) {
                dump();

                if (getenv("KIT_LOG")) {
                    (void) usleep(20000000);
                }

                fail_msg("%s: worker %u hangs", when, w);
            }

            if (from == 0 && collect(pid, when)) {
                replace(pid);
            }

            (void) usleep(500);
        }
    }
}


/*
 * After a death: each of the others gets something done, and soon.  The time in
 * which the machine does not let us run, who only sleep, is not theirs either.
 */

static void
others_go_on(unsigned from, const char *when)
{
    bool      all;
    unsigned  w;
    uint64_t  now, last, waited, acks[WORKERS];

    last = kit_now_ms();
    waited = 0;

    for (w = from; w < WORKERS; w++) {
        acks[w] = atomic_load(&death_shared->worker[w].acks);
    }

    do {
        (void) usleep(500);

        now = kit_now_ms();
        waited += kv_min(now - last, UINT64_C(10));
        last = now;

        for (w = from, all = true; w < WORKERS; w++) {
            all = all && atomic_load(&death_shared->worker[w].acks) != acks[w];
        }

    } while (!all && waited <= SOON);

    if (!all) {
        dump();
        fail_msg("%s: not all of the others have gone on after %d ms", when,
                 SOON);
    }

    death_slowest = kv_max(death_slowest, waited);
}


static void
stop_workers(pid_t *pid, bool orders, const char *when)
{
    int       status;
    unsigned  w;

    atomic_store(&death_shared->stop, 1);

    for (w = 0; w < WORKERS; w++) {
        status = death_wait_for(pid[w], PATIENCE);

        if (status == -1) {
            (void) kill(pid[w], SIGABRT);
        }

        if (status != 0 && !(orders && death_killed(status))) {
            fail_msg("%s: worker %u ended with %x", when, w, status);
        }
    }

    for (w = 0; w < WORKERS; w++) {
        if (atomic_load(&death_shared->worker[w].errors)) {
            fail_msg("%s: worker %u: %s", when, w,
                     death_shared->worker[w].text);
        }
    }
}


static bool
death_in_background(const order_t *order)
{
    return order->how == DIE_POINT
           && (strncmp(order->point, "BACKGROUND", 10) == 0
               || strncmp(order->point, "SPARE", 5) == 0
               || strncmp(order->point, "SNAPSHOT", 8) == 0
               || strncmp(order->point, "PURGING", 7) == 0);
}


static void
death_one_death(const order_t *order, const char *when)
{
    int       status;
    pid_t     pid[WORKERS];
    unsigned  w;

    memset((void *) death_shared, 0, sizeof(shared_t));

    if (kit_start(&death_kit) != KV_OK) {
        fail_msg("%s: %s", when, death_kit.err.text);
    }

    if (order->how == DIE_CALL || death_in_background(order)) {
        atomic_store(&death_shared->background, 1);
    }

    for (w = 0; w < WORKERS; w++) {
        pid[w] = death_spawn(w, w == 0 ? order : NULL);
    }

    status = wait_for_victim(pid[0]);
    atomic_store(&death_shared->background, 0);

    if (order->how == DIE_LEAVE ? status != 0 : !death_killed(status)) {
        fail_msg("%s: the victim ended with %x", when, status);
    }

    others_go_on(1, when);
    progress(pid, 1, when);

    if (order->how == DIE_POINT) {
        death_mark(order->point);
    }

    /* whoever takes its place */

    pid[0] = death_spawn(0, NULL);
    progress(pid, 0, when);

    stop_workers(pid, false, when);
    verify_all(when);
}


static void
death_clean_directory(void)
{
    kit_close(&death_kit);
    death_open_kit();
}


/* Points that are on nobody's usual way have tests of their own. */

static bool
usual(const char *name)
{
    unsigned  i;

    static const char *const  others[] = {
        /* test_heirs */
        "HEAP_FORMAT", "RESETTING", "TAKEOVER", "DEAD_LOCKED", "REAPING",
        "QUIESCING", "REBUILDING", "RECOVERING",
        /* test_steps */
        "GROWING", "CLEARED", "SWEEPING", "COMPACTING"
    };

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(name, others[i]) == 0) {
            return false;
        }
    }

    return true;
}


/* Not by every operation. */

static bool
seldom(const order_t *order)
{
    return death_in_background(order) || strcmp(order->point,
                                                "COMMIT_LOCKED") == 0
           || strcmp(order->point, "UNCLAIMED") == 0;
}


static void
test_points(void **state)
{
    int       i, k;
    char      when[64];
    order_t   order;

    static const int  afters[] = { 1, 37 };

    (void) state;

    for (i = 0; i < KV_FAILPOINTS; i++) {

        if (!usual(kv_failpoint_name(i))) {
            continue;
        }

        for (k = 0; k < 2; k++) {
            order.how = DIE_POINT;
            order.point = kv_failpoint_name(i);
            order.after = seldom(&order) ? k + 1 : afters[k];

            if (k && (strcmp(order.point, "SLOT_TAKEN") == 0
                      || death_leaves(&order)))
            {
                continue;            /* once in a life */
            }

            (void) snprintf(when, sizeof(when), "%s, %d", order.point,
                            order.after);

            if (getenv("KIT_LOG")) {
                (void) fprintf(stderr, "---- %s\n", when);
            }

            death_one_death(&order, when);
            death_clean_directory();
        }
    }
}


/* A file half made, a name half changed: by commits and in the background. */

static void
test_calls(void **state)
{
    char      when[64];
    order_t   order;
    unsigned  i;

    (void) state;

    memset(&order, 0, sizeof(order));
    order.how = DIE_CALL;

    for (i = 0; i < 6 * CALLS; i++) {
        order.call = (int) (i / 6);
        order.late = i & 1;
        order.after = 1 + (int) (i % 6 / 2 * 2);

        (void) snprintf(when, sizeof(when), "%s call %d, the %d.",
                        order.late ? "after" : "before", order.call,
                        order.after);

        death_one_death(&order, when);
        death_clean_directory();
    }
}


static void
test_ways(void **state)
{
    order_t   order;
    unsigned  i;

    static const struct {
        death_t      how;
        const char  *name;
    } ways[] = {
        { DIE_HEAP, "with the heap's lock" },
        { DIE_BUILDING, "building" },
        { DIE_PINNED, "pinning" },
        { DIE_EPOCH, "in an epoch" },
        { DIE_LEAVE, "leaving" }
    };

    (void) state;

    memset(&order, 0, sizeof(order));

    for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        order.how = ways[i].how;
        death_one_death(&order, ways[i].name);
        death_clean_directory();
    }
}



/*
 * Workers die and are replaced, until the time is over and `least` have died:
 * at the points that their orders name, and by kills from outside, at most
 * `every` ms apart.
 */

static unsigned
death_chaos(const order_t *order, int ms, int every, unsigned least,
    const char *when)
{
    pid_t     pid[WORKERS];
    uint64_t  end, next, late;
    unsigned  w, deaths;

    memset((void *) death_shared, 0, sizeof(shared_t));

    if (kit_start(&death_kit) != KV_OK) {
        fail_msg("%s: %s", when, death_kit.err.text);
    }

    for (w = 0; w < WORKERS; w++) {
        pid[w] = death_spawn(w, order && order[w].point ? &order[w] : NULL);
    }

    deaths = 0;
    end = kit_now_ms() + (uint64_t) ms;
    late = kit_now_ms() + PATIENCE;
    next = kit_now_ms();

    while (kit_now_ms() < end || (deaths < least && kit_now_ms() < late)) {

        if (every && kit_now_ms() >= next) {
            next = kit_now_ms() + death_rnd((uint32_t) every);
            (void) kill(pid[death_rnd(WORKERS)], SIGKILL);
        }

        deaths += collect(pid, when);

        /* with orders, the heir must be one who has them */

        if (every || deaths >= least) {
            replace(pid);
        }

        (void) usleep(500);
    }

    replace(pid);

    progress(pid, 0, when);
    stop_workers(pid, order != NULL, when);
    verify_all(when);

    return deaths;
}


static void
test_random_kills(void **state)
{
    char      when[64];
    unsigned  deaths;
    uint64_t  used;

    (void) state;

    used = getenv("KIT_SEED") ? strtoull(getenv("KIT_SEED"), NULL, 10)
                              : kv_now_ns() | 1;
    death_seed = used;

    (void) snprintf(when, sizeof(when), "random kills, KIT_SEED=%llu",
                    (unsigned long long) used);

    deaths = death_chaos(NULL, 3000, 30, 4 * SLOTS, when);

    assert_true(deaths >= 4 * SLOTS);
}


/* One dies with the heap, and who rebuilds, too; or who clears up. */

static void
test_heirs(void **state)
{
    order_t   order[WORKERS];
    unsigned  i, k, deaths, tries;

    static const char *const  points[][2] = {
        { "HEAP_ALLOC", "REBUILDING" },
        { "APPLYING", "REBUILDING" },
        { "WRITTEN", "REAPING" },
        { "BUILDING", "REAPING" },
        { "TAKEN", "TAKEN" },
        { "SWAPPED", "WRITTEN" },
        { "SYNCED", "APPLIED" },
        { "WRITTEN", "APPLYING" },
        { "REPORTING", "NAMED" },
        { "LINKED", "HEAP_FORMAT" },
        { "HEAP_FREE", "RECOVERING" },
        { "APPLYING", "QUIESCING" },
        { "FREEING", "RESETTING" },
        { "TAKEN", "TAKEOVER" },
        { "WRITE", "DEAD_LOCKED" },
        { "SNAPSHOT_COPY", "REAPING" }
    };

    (void) state;

    for (i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        deaths = 0;

        /* on a busy machine an heir may find that all is done already */

        for (tries = 0; deaths < 2 && tries < 10; tries++) {
            memset(order, 0, sizeof(order));

            for (k = 0; k < WORKERS; k++) {
                order[k].how = DIE_POINT;
                order[k].point = points[i][k != 0];
                order[k].after = k == 0 ? 20 : 1;
            }

            deaths = death_chaos(order, 50, 0, 2, points[i][0]);
            death_clean_directory();
        }

        if (deaths < 2) {
            fail_msg("%s: nobody died at %s", points[i][0], points[i][1]);
        }

        death_mark(points[i][0]);
        death_mark(points[i][1]);
    }
}


/* ---- one thing each */


/* Runs `f` in a process that has entered the store, and is killed after. */

static void
death_child_dies(void (*f)(host_t *host))
{
    pid_t   pid;
    host_t  host;

    pid = death_child();

    if (pid == 0) {
        if (host_start(&host, death_kit.store) != KV_OK) {
            _exit(1);
        }

        f(&host);
        (void) kill(getpid(), SIGKILL);
    }

    assert_true(death_killed(death_wait_for(pid, PATIENCE)));
}


static void
in_epoch(host_t *host)
{
    char         key[32];
    size_t       n;
    kv_entry_t  *e;

    n = kit_key(1, key);
    (void) kv_store_read(host->store, key, n, &e);
}


/* Done in time?  A thread that hangs would keep the test from its end. */

static void
death_finish_within(host_t *host, kv_op_t **op, unsigned n, const char *what)
{
    kv_rc_t   rc;
    unsigned  i;
    uint64_t  end;

    end = kit_now_ms() + PATIENCE;

    for (i = 0; i < n; i++) {

        while (!kv_store_done(op[i], &rc)) {
            if (kit_now_ms() > end) {
                (void) fprintf(stderr, "%s: operation %u hangs\n", what, i);
                abort();
            }

            host_turn(host, 10);
        }

        assert_int_equal(rc, KV_OK);
        kv_store_release(host->store, op[i]);
    }
}


/*
 * A reader died in an epoch and its slot is being reaped, while much is freed
 * in the same round: two clears, or more entries than the retire list holds.
 */

static void
test_dead_reader(void **state)
{
    host_t        host;
    kv_op_t      *op[2 * KV_RETIRED_MAX];
    unsigned      i, n;
    const char   *wrong;

    (void) state;

    death_kit.size = 32 << 20;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    assert_int_equal(kit_put(&host, 1, 1, 50000, NULL), KV_OK);
    assert_true(host_stop(&host));

    death_child_dies(in_epoch);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    host.hold = true;

    for (i = 0; i < 3; i++) {
        assert_int_equal(kv_store_clear(death_kit.store, &op[i]), KV_OK);
        host_do(&host, kv_store_submit(death_kit.store, op[i]));
    }

    host.hold = false;
    host_do(&host, host.held);
    host.held = 0;

    death_finish_within(&host, op, 3, "clear after clear");

    wrong = kit_settle(&host);
    assert_string_equal(wrong ? wrong : "", "");

    assert_int_equal(kit_put(&host, 1, 1, 50000, NULL), KV_OK);
    assert_true(host_stop(&host));

    death_child_dies(in_epoch);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    host.hold = true;
    n = KV_RETIRED_MAX + 1000;

    for (i = 0; i < n; i++) {
        assert_int_equal(kit_begin_put(&host, 7, i + 1, 20, &op[i]), KV_OK);
        host_do(&host, kv_store_submit(death_kit.store, op[i]));
    }

    host.hold = false;
    host_do(&host, host.held);
    host.held = 0;

    death_finish_within(&host, op, n, "a full limbo");

    wrong = kit_settle(&host);
    assert_string_equal(wrong ? wrong : "", "");

    assert_true(host_stop(&host));
}


static void
in_snapshot(host_t *host)
{
    kv_failpoint_arm("SNAPSHOT_STEP", 1);
    (void) atomic_fetch_or(&host->store->zone->requests, KV_REQUEST_SNAPSHOT);

    for ( ;; ) {
        host_turn(host, 10);
    }
}


static void
in_large(host_t *host)
{
    kv_failpoint_arm("SNAPSHOT_LARGE", 1);
    (void) atomic_fetch_or(&host->store->zone->requests, KV_REQUEST_SNAPSHOT);

    for ( ;; ) {
        host_turn(host, 10);
    }
}


/*
 * A snapshot copies a large value outside of all epochs, but pinned: what it
 * pinned when it died is freed.
 */

static void
test_snapshot_pin(void **state)
{
    host_t        host;
    unsigned      i, scanned;
    kv_worker_t  *worker;
    const char   *wrong;

    (void) state;

    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 1, 1, 50000, NULL), KV_OK);
    assert_true(host_stop(&host));

    death_child_dies(in_large);

    for (i = 0, scanned = 0; i < death_kit.store->zone->nworkers; i++) {
        worker = &death_kit.store->zone->workers[i];

        assert_int_equal(atomic_load(&worker->epoch[KV_EPOCH_SCAN].value), 0);
        scanned += atomic_load(&worker->scanned) != 0;
    }

    assert_int_equal(scanned, 1);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 1, 2, 100, NULL), KV_OK);

    wrong = kit_settle(&host);
    assert_string_equal(wrong ? wrong : "", "");
    assert_true(host_stop(&host));
}


/*
 * Somebody died while it made a snapshot; its slot is reaped, and the next
 * process gets it before anybody wants another one.
 */

static void
test_background_claim(void **state)
{
    pid_t     pid;
    host_t    host, other;
    uint64_t  end;

    (void) state;

    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 1, 1, 500, NULL), KV_OK);
    assert_true(host_stop(&host));

    death_child_dies(in_snapshot);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_null(kit_settle(&host));

    /* the free slots there are, the dead one's among them */

    pid = death_child();

    if (pid == 0) {
        death_kit.store->worker = NULL;
        (void) host_start(&other, death_kit.store);
        atomic_store(&death_shared->background,
                     (int) death_kit.store->number + 1);

        for ( ;; ) {
            (void) pause();
        }
    }

    end = kit_now_ms() + PATIENCE;

    while (atomic_load(&death_shared->background) == 0 && kit_now_ms() < end) {
        (void) usleep(500);
    }

    (void) atomic_fetch_or(&death_kit.store->zone->requests,
                           KV_REQUEST_SNAPSHOT);

    while (atomic_load(&death_kit.store->zone->snapshots) == 0
           && kit_now_ms() < end)
    {
        host_turn(&host, 10);
    }

    (void) kill(pid, SIGKILL);
    assert_true(death_killed(death_wait_for(pid, PATIENCE)));
    assert_true(host_stop(&host));
    assert_int_equal(atomic_load(&death_kit.store->zone->snapshots), 1);
}


static void
half_applied(host_t *host)
{
    kv_op_t   *op;
    unsigned   i;

    kv_failpoint_arm("APPLYING", 5);
    host->hold = true;

    for (i = 0; i < 10; i++) {
        (void) kit_begin_put(host, 100 + i, 1, 20, &op);
        host_do(host, kv_store_submit(host->store, op));
    }

    host->hold = false;
    host_do(host, host->held);

    for ( ;; ) {
        host_turn(host, 10);
    }
}


/*
 * A snapshot may see what is being applied, and gets no name before the log
 * of that is durable.
 */

static void
test_snapshot_end(void **state)
{
    host_t      host;
    uint64_t    end;
    kv_zone_t  *zone;

    (void) state;

    death_kit.conf.sync = KV_SYNC_OFF;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    zone = death_kit.store->zone;

    assert_int_equal(kit_put(&host, 1, 1, 500, NULL), KV_OK);

    end = kit_now_ms() + PATIENCE;
    atomic_store(&zone->want_sync, 1);

    while (atomic_load(&zone->want_sync) && kit_now_ms() < end) {
        host_turn(&host, 10);
    }

    assert_int_equal(atomic_load(&zone->wal.durable_lsn), 1);
    assert_true(host_stop(&host));

    death_child_dies(half_applied);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    /* nobody commits for a while */

    host.hold = true;
    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);
    host_do(&host, kv_store_todo(death_kit.store));

    host.hold = false;
    host_do(&host, host.held & KV_TODO_BACKGROUND);
    end = kit_now_ms() + 200;

    while (kit_now_ms() < end && atomic_load(&zone->snapshots) == 0) {
        (void) usleep(1000);
    }

    assert_int_equal(atomic_load(&zone->snapshots), 0);

    /* then the zone is rebuilt, and the snapshot given up */

    host_do(&host, host.held & KV_TODO_COMMIT);
    end = kit_now_ms() + PATIENCE;

    while (atomic_load(&zone->rebuilds) == 0 && kit_now_ms() < end) {
        host_turn(&host, 10);
    }

    assert_int_equal(atomic_load(&zone->rebuilds), 1);
    assert_null(kit_settle(&host));
    assert_int_equal(atomic_load(&zone->map.keys), 11);

    assert_true(host_stop(&host));
}


static void
commits_others(host_t *host)
{
    kv_failpoint_arm("WRITTEN", 1);

    for ( ;; ) {
        host_turn(host, 10);
    }
}


/* What a write was promised holds for the heir, too, whatever it promises. */

static void
test_heir_of_others(void **state)
{
    kv_rc_t           rc;
    kv_op_t          *op;
    host_t            host, other;
    uint64_t          end;
    kv_zone_t        *zone;
    kv_store_t       *store;
    kv_store_conf_t   conf;

    (void) state;

    death_kit.conf.sync = KV_SYNC_OFF;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    zone = death_kit.store->zone;

    conf = death_kit.conf;
    conf.sync = KV_SYNC_ALWAYS;
    assert_int_equal(kv_store_attach(&store, &conf, death_kit.mem,
                                     &death_kit.io->io,
                                     death_kit.dirfd, &death_kit.err), KV_OK);
    assert_int_equal(kv_store_enter(store), KV_OK);

    memset(&other, 0, sizeof(other));
    other.store = store;
    assert_int_equal(kit_begin_put(&other, 1, 1, 500, &op), KV_OK);
    kv_store_unclaim(store, kv_store_submit(store, op));

    death_child_dies(commits_others);
    assert_int_equal(atomic_load(&op->state), KV_OP_TAKEN);
    assert_int_equal(atomic_load(&zone->wal.durable_lsn), 0);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    end = kit_now_ms() + PATIENCE;

    while (!kv_store_done(op, &rc) && kit_now_ms() < end) {
        host_turn(&host, 10);
    }

    assert_int_equal(rc, KV_OK);
    assert_true(op->lsn > 0);
    assert_true(atomic_load(&zone->wal.durable_lsn) >= op->lsn);

    kv_store_release(store, op);
    kv_store_leave(store);
    kv_store_destroy(store);
    assert_null(kit_settle(&host));
    assert_true(host_stop(&host));
}


static void
enters_only(host_t *host)
{
    (void) host;
}


/* Slots of the dead come back as long as one worker lives. */

static void
test_slots(void **state)
{
    host_t    host;
    uint64_t  end;
    unsigned  i;

    (void) state;

    assert_int_equal(kit_start(&death_kit), KV_OK);

    for (i = 0; i < 4 * SLOTS; i++) {
        death_child_dies(enters_only);

        if (i % 3 == 2) {
            assert_int_equal(host_start(&host, death_kit.store), KV_OK);
            assert_null(kit_settle(&host));
            assert_true(host_stop(&host));
        }
    }

    /* all of them dead, and nobody had the time to clear away */

    for (i = 0; i < SLOTS; i++) {
        atomic_store(&death_kit.store->zone->reap, 0);

        if (kv_store_enter(death_kit.store) == KV_OK) {
            kv_store_leave(death_kit.store);
        }
    }

    end = kit_now_ms() + PATIENCE;

    while (host_start(&host, death_kit.store) != KV_OK) {
        assert_true(kit_now_ms() < end);
        (void) usleep(1000);
    }

    assert_null(kit_settle(&host));
    assert_true(host_stop(&host));
}


/* ---- steps of applying that need a map of their own */


#define FEW   300u                 /* keys that are there before */
#define MANY  9000u                /* and that make the map grow */


/* Submits all that `host` was told to hold, as one. */

static void
let_go(host_t *host, kv_op_t **op, unsigned n)
{
    host->hold = false;
    host_do(host, host->held);
    host->held = 0;

    death_finish_within(host, op, n, "all at once");
}


static void
grows(host_t *host)
{
    unsigned   i, n;

    static kv_op_t  *op[500];

    kv_failpoint_arm("GROWING", 3);

    for (i = 0; i < MANY; i += n) {
        host->hold = true;

        for (n = 0; n < 500; n++) {
            (void) kit_begin_put(host, 1000000 + i + n, 1, 8, &op[n]);
            host_do(host, kv_store_submit(host->store, op[n]));
        }

        let_go(host, op, n);
    }
}


static void
clears(host_t *host)
{
    kv_failpoint_arm("CLEARED", 1);
    (void) kit_clear(host);
}


static void
sweeps(host_t *host)
{
    kv_failpoint_arm("SWEEPING", 40);
    (void) kit_clear(host);
}


static void
compacts(host_t *host)
{
    kv_op_t  *op;

    kv_failpoint_arm("COMPACTING", 5);
    (void) kv_store_reserve(host->store, 4 << 20, 0, &op);
    (void) host_run(host, op);
}


/* How many of the first keys are there, whole. */

static unsigned
count_few(host_t *host)
{
    kv_rc_t   rc;
    uint32_t  id, version;
    unsigned  n;

    for (id = 0, n = 0; id < FEW; id++) {
        rc = kit_get(host, id, &version, NULL);

        if (rc == KV_OK) {
            assert_int_equal(version, 1);
            n++;

        } else {
            assert_int_equal(rc, KV_NOT_FOUND);
        }
    }

    return n;
}


static void
one_step(const char *point, void (*f)(host_t *host))
{
    host_t       host;
    uint32_t     id, n;
    uint64_t     died;
    unsigned     few;
    const char  *wrong;

    death_kit.size = 8 << 20;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    for (id = 0; id < FEW; id++) {
        assert_int_equal(kit_put(&host, id, 1, 500, NULL), KV_OK);
    }

    /* a zone of sparse pages: those who filled it are gone */

    if (f == compacts) {

        for (n = 0; kit_put(&host, 1000 + n, 1, 3000, NULL) == KV_OK; n++) {
            /* void */
        }

        for (id = 0; id < n; id++) {
            if (id % 10) {
                assert_int_equal(kit_delete(&host, 1000 + id), KV_OK);
            }
        }
    }

    assert_true(host_stop(&host));

    death_child_dies(f);
    died = kit_now_ms();
    death_mark(point);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    while (kit_put(&host, FEW, 1, 500, NULL) != KV_OK
           && kit_now_ms() - died <= SOON)
    {
        host_turn(&host, 1);
    }

    died = kit_now_ms() - died;
    death_slowest = kv_max(death_slowest, died);

    if (died > SOON) {
        fail_msg("%s: the next write took %d ms", point, (int) died);
    }

    /* what was being applied was durable */

    few = count_few(&host);
    assert_int_equal(few, f == clears || f == sweeps ? 0 : FEW);

    wrong = kit_settle(&host);
    assert_string_equal(wrong ? wrong : "", "");
    assert_int_equal(atomic_load(&death_kit.store->zone->rebuilds), 1);
    assert_true(host_stop(&host));

    kit_stop(&death_kit);
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(count_few(&host), few);
    assert_true(host_stop(&host));

    death_clean_directory();
}


static void
test_steps(void **state)
{
    (void) state;

    one_step("GROWING", grows);
    one_step("CLEARED", clears);
    one_step("SWEEPING", sweeps);
    one_step("COMPACTING", compacts);
}


/* ---- stuck, and then dead */


/* An upload that does not go on, and an answer that nobody reads. */

static void
stuck_requests(host_t *host)
{
    kv_op_t     *op;
    kv_entry_t  *e;

    static char  data[60000];

    (void) kv_store_put(host->store, "upload", 6, KV_LENGTH_UNKNOWN, &op);
    (void) kv_store_write(host->store, op, 0, data, sizeof(data));

    if (kv_store_read(host->store, "key-1", 5, &e) == KV_OK) {
        (void) kv_store_pin(host->store, e, &op);
        kv_store_read_done(host->store);
    }
}


/* Stopped at the worst time. */

static void
stuck_reader(host_t *host)
{
    kv_entry_t  *e;

    (void) kv_store_read(host->store, "key-1", 5, &e);
}


static pid_t
stuck_child(void (*f)(host_t *host))
{
    pid_t     pid;
    host_t    host;
    uint64_t  end;

    atomic_store(&death_shared->stop, 0);

    pid = death_child();

    if (pid == 0) {
        if (host_start(&host, death_kit.store) != KV_OK) {
            _exit(1);
        }

        f(&host);
        atomic_store(&death_shared->stop, 1);

        for ( ;; ) {
            if (f == stuck_requests) {
                host_turn(&host, 10);

            } else {
                (void) pause();
            }
        }
    }

    end = kit_now_ms() + PATIENCE;

    while (!atomic_load(&death_shared->stop)) {
        assert_true(kit_now_ms() < end);
        (void) usleep(500);
    }

    return pid;
}


static uint64_t
heap_used(void)
{
    kv_heap_stat_t  st;

    assert_int_equal(kv_store_heap_stat(death_kit.store, &st), KV_OK);

    return st.used;
}


/*
 * While requests are stuck, nothing but what they have themselves is kept:
 * the zone is written over many times.  A reader that stops within its epoch
 * does keep what is replaced, but no longer than it lives.
 */

static void
test_stuck(void **state)
{
    pid_t        pid;
    host_t       host;
    uint32_t     i;
    uint64_t     died, used;
    unsigned     turn, rooms;
    const char  *wrong;

    (void) state;

    death_kit.size = 8 << 20;
    death_kit.conf.snapshot = 0;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 1, 1, 80000, NULL), KV_OK);
    assert_true(host_stop(&host));

    for (turn = 0; turn < 2; turn++) {
        pid = stuck_child(turn == 0 ? stuck_requests : stuck_reader);

        assert_int_equal(host_start(&host, death_kit.store), KV_OK);
        used = heap_used();

        if (turn == 0) {
            rooms = 0;

            for (i = 0; i < 400; i++) {
                assert_int_equal(kit_put(&host, 1, 2 + i, 80000, &rooms),
                                 KV_OK);
            }

            /* the pinned value is one more */

            assert_true(heap_used() <= used + 2 * 100000);

        } else {
            for (i = 0; i < 40; i++) {
                assert_int_equal(kit_put(&host, 1, 1000 + i, 80000, NULL),
                                 KV_OK);
            }

            assert_true(heap_used() >= used + 39 * 80000);
        }

        (void) kill(pid, SIGKILL);
        assert_true(death_killed(death_wait_for(pid, PATIENCE)));
        died = kit_now_ms();

        wrong = kit_settle(&host);
        assert_string_equal(wrong ? wrong : "", "");
        assert_true(kit_now_ms() - died <= SOON);

        assert_true(host_stop(&host));
    }

    assert_int_equal(atomic_load(&death_kit.store->zone->rebuilds), 0);
}


/* By all the tests before. */

static void
test_all_reached(void **state)
{
    int  i, n;

    (void) state;

    if (getenv("KIT_TEST")) {
        skip();
    }

    for (i = 0, n = 0; i < KV_FAILPOINTS; i++) {
        if (!death_reached[i]) {
            (void) fprintf(stderr, "nobody died at %s\n", kv_failpoint_name(i));
            n++;
        }
    }

    if (getenv("KIT_SUM")) {
        (void) fprintf(stderr, "%d of %d points reached, after %d writes at "
                       "most; the others went on after %d ms at most\n",
                       KV_FAILPOINTS - n, KV_FAILPOINTS, (int) death_most_acks,
                       (int) death_slowest);
    }

    assert_int_equal(n, 0);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, death_setup, death_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_dead_reader),
        TEST(test_snapshot_pin),
        TEST(test_background_claim),
        TEST(test_snapshot_end),
        TEST(test_heir_of_others),
        TEST(test_slots),
        TEST(test_points),
        TEST(test_steps),
        TEST(test_calls),
        TEST(test_ways),
        TEST(test_stuck),
        TEST(test_heirs),
        TEST(test_random_kills),
        cmocka_unit_test(test_all_reached)
    };

    cmocka_set_test_filter(getenv("KIT_TEST"));

    return cmocka_run_group_tests_name("death", tests, NULL, NULL);
}
