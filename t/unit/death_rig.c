
/*
 * The parent of the workers: it waits for deaths, sees that the others go on,
 * and verifies what all of them noted.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/kv_failpoint.h"
#include "base/kv_number.h"
#include "death_rig.h"


#define STUCK     30000            /* ms in which the victim does nothing */
#define ENOUGH    20000            /* writes of the victim to its failpoint */
#define TRY       5000             /* ms for one to die after the other */
#define ALONE     200              /* ms until the victim is left alone */
#define CHILDREN  16               /* at a time, at most */
#define LATE      10               /* ms that a sleep of one may take */
#define LAPS      256              /* sleeps between two syncs */


shared_t  *death_shared;
bool       death_reached[KV_FAILPOINTS];
uint64_t   death_slowest;
uint64_t   death_most_acks;

static pid_t  children[CHILDREN];

static _Atomic uint64_t  ran_ms;


void
death_mark(const char *name)
{
    int  i;

    for (i = 0; i < KV_FAILPOINTS; i++) {
        if (strcmp(kv_failpoint_name(i), name) == 0) {
            death_reached[i] = true;
        }
    }
}


int
death_setup(void **state)
{
    (void) state;

    death_seed = 88172645463325252ull;
    kit_typed = KV_META_TYPE;

    death_shared = mmap(NULL, sizeof(shared_t), PROT_READ|PROT_WRITE,
                        MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    if (death_shared == MAP_FAILED) {
        return -1;
    }

    death_open_kit();

    return 0;
}


pid_t
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


int
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


int
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
 * The victim's status.  As long as there is work another worker can be the
 * committer all the time: so now and then the others leave the victim alone,
 * and it writes only when the role is free, and gets it.  How soon it comes to
 * its failpoint depends on the machine, after how many writes does not.
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


/* Sleeps, and now and then syncs a byte: what is much longer does not count. */

static void *
watch(void *data)
{
    FILE      *f;
    uint64_t   laps, last, now;

    f = data;
    last = kit_now_ms();

    for (laps = 1; ; laps++) {
        (void) usleep(1000);

        if (laps % LAPS == 0 && pwrite(fileno(f), "x", 1, 0) == 1) {
            (void) fdatasync(fileno(f));
        }

        now = kit_now_ms();
        (void) atomic_fetch_add(&ran_ms, kv_min(now - last, LATE));
        last = now;
    }

    return NULL;
}


uint64_t
death_ran_ms(void)
{
    FILE       *f;
    pthread_t   thread;

    static bool  watched;

    if (!watched) {
        f = tmpfile();
        assert_non_null(f);
        assert_int_equal(pthread_create(&thread, NULL, watch, f), 0);
        assert_int_equal(pthread_detach(thread), 0);
        watched = true;
    }

    return atomic_load(&ran_ms);
}


bool
death_killed(int status)
{
    return status != -1 && WIFSIGNALED(status)
           && WTERMSIG(status) == SIGKILL;
}


/* The common counter is what was acknowledged, or tried without an answer. */

static void
verify_counter(host_t *host, const char *when)
{
    bool         number;
    int64_t      sum;
    kv_rc_t      rc;
    uint32_t     w;
    uint64_t     low, high;
    kv_entry_t  *e;

    sum = 0;
    low = 0;
    high = 0;

    for (w = 0; w < WORKERS; w++) {
        low += atomic_load(&death_shared->worker[w].counter.acked);
        high += atomic_load(&death_shared->worker[w].counter.issued);
    }

    rc = kv_store_read(host->store, COUNTER, sizeof(COUNTER) - 1, &e);

    if (rc == KV_OK) {
        number = kv_number_parse(kv_store_value(e), e->value_len, &sum);
        kv_store_read_done(host->store);
        assert_true(number);

    } else {
        assert_int_equal(rc, KV_NOT_FOUND);
    }

    if (sum < (int64_t) low || sum > (int64_t) high) {
        fail_msg("%s: the counter is %lld; %llu acknowledged, %llu issued",
                 when, (long long) sum, (unsigned long long) low,
                 (unsigned long long) high);
    }
}


/* All keys of a group are of the same version. */

static void
verify_groups(host_t *host, const char *when)
{
    kv_rc_t    rc;
    uint32_t   w, i, version, first;
    ledger_t  *l;

    for (w = 0; w < WORKERS; w++) {
        l = &death_shared->worker[w].group;
        first = 0;

        for (i = 0; i < GROUPED; i++) {
            version = 0;
            rc = kit_get(host, w * 1000 + GROUP_ID + i, &version, NULL);

            if (rc == KV_NOT_FOUND) {
                rc = KV_OK;
            }

            first = i ? first : version;

            if (rc != KV_OK || version != first
                || version < atomic_load(&l->acked)
                || version > atomic_load(&l->issued))
            {
                fail_msg("%s: key %u of worker %u's group: rc %d, version %u; "
                         "of the first %u, acknowledged %u, issued %u", when,
                         i, w, rc, version, first, atomic_load(&l->acked),
                         atomic_load(&l->issued));
            }
        }
    }
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

    verify_counter(host, when);
    verify_groups(host, when);
    death_contest_verify(host, when);
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
                   "queue %p, taken %p, committer %u, background %u, requests "
                   "%u, reap %u, heap %s, retired %u, old %u, next LSN %llu, "
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
        (void) fprintf(stderr, "place %u: in use %u, pid %d, generation %llu, "
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


/* Milliseconds for which threads of it could have run, but had no processor. */

static uint64_t
starved_ms(pid_t pid)
{
    DIR                 *dir;
    FILE                *f;
    char                 name[PATH_MAX];
    uint64_t             sum;
    struct dirent       *task;
    unsigned long long   ns;

    (void) snprintf(name, sizeof(name), "/proc/%d/task", pid);

    sum = 0;
    dir = opendir(name);
    assert_non_null(dir);

    while ((task = readdir(dir)) != NULL) {
        (void) snprintf(name, sizeof(name), "/proc/%d/task/%s/schedstat", pid,
                        task->d_name);
        f = fopen(name, "re");

        if (f) {
            if (fscanf(f, "%*u %llu", &ns) == 1) {
                sum += ns;
            }

            (void) fclose(f);
        }
    }

    (void) closedir(dir);

    return sum / 1000000;
}


static uint64_t
others_starved_ms(const pid_t *pid, unsigned from)
{
    unsigned  w;
    uint64_t  sum;

    for (w = from, sum = 0; w < WORKERS; w++) {
        sum += starved_ms(pid[w]);
    }

    return sum;
}


/*
 * After a death: each of the others gets something done, and soon.  What they
 * wait for a processor, beside other tests, is not what they wait for the dead.
 */

static void
others_go_on(const pid_t *pid, unsigned from, const char *when)
{
    bool      all;
    unsigned  w;
    uint64_t  died, starved, ran, waited, acks[WORKERS];

    died = death_ran_ms();
    starved = others_starved_ms(pid, from);

    for (w = from; w < WORKERS; w++) {
        acks[w] = atomic_load(&death_shared->worker[w].acks);
    }

    do {
        (void) usleep(500);

        ran = death_ran_ms() - died;
        waited = ran;

        if (waited > SOON) {
            waited -= kv_min(waited, others_starved_ms(pid, from) - starved);
        }

        for (w = from, all = true; w < WORKERS; w++) {
            all = all && atomic_load(&death_shared->worker[w].acks) != acks[w];
        }

    } while (!all && waited <= SOON && ran <= PATIENCE);

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


bool
death_in_background(const order_t *order)
{
    return order->how == DIE_FAILPOINT
           && (strncmp(order->failpoint, "BACKGROUND", 10) == 0
               || strncmp(order->failpoint, "SPARE", 5) == 0
               || strncmp(order->failpoint, "SNAPSHOT", 8) == 0
               || strncmp(order->failpoint, "PURGING", 7) == 0);
}


void
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

    others_go_on(pid, 1, when);
    progress(pid, 1, when);

    if (order->how == DIE_FAILPOINT) {
        death_mark(order->failpoint);
    }

    /* another worker takes its place */

    pid[0] = death_spawn(0, NULL);
    progress(pid, 0, when);

    stop_workers(pid, false, when);
    verify_all(when);
}


void
death_clean_directory(void)
{
    kit_close(&death_kit);
    death_open_kit();
}


unsigned
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
        pid[w] = death_spawn(w, order && order[w].failpoint ? &order[w] : NULL);
    }

    deaths = 0;
    end = kit_now_ms() + (uint64_t) ms;
    late = kit_now_ms() + (every ? PATIENCE : TRY);
    next = kit_now_ms();

    while (kit_now_ms() < end || (deaths < least && kit_now_ms() < late)) {

        if (every && kit_now_ms() >= next) {
            next = kit_now_ms() + death_rnd((uint32_t) every);
            (void) kill(pid[death_rnd(WORKERS)], SIGKILL);
        }

        deaths += collect(pid, when);

        /* with orders, the worker that takes over must have some, too */

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


void
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


void
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

            host_process_events(host, 10);
        }

        assert_int_equal(rc, KV_OK);
        kv_store_release(host->store, op[i]);
    }
}
