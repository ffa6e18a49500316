
/*
 * Errors from the disk: the whole life of a store (a first start, writes,
 * changes of segments, spares, snapshots, what they make superfluous, stops,
 * kills, restarts), in which the Nth call of a kind fails, for every N, kind
 * and error; once, for a while, or until the machine is started again; and
 * two failures one after the other.
 *
 * After each step of that life it is checked that
 *
 *   - a write is answered as `rules` says: an interruption and a short
 *     transfer are not seen, a full disk is KV_NO_SPACE, and whatever casts
 *     doubt on the log is KV_UNAVAILABLE;
 *   - after KV_NO_SPACE, or an error that may pass, writes work again as soon
 *     as the disk does;
 *   - after any other error of writing, or an error of syncing what was
 *     written, all later writes are refused until a restart, though the disk
 *     may be good again;
 *   - health says whether writes are refused;
 *   - reads give what was acknowledged, no more and no less, whatever happens;
 *   - a snapshot or a spare that fails costs nothing but itself;
 *   - a start that fails says so (KV_ERROR, never KV_DAMAGED), and goes well
 *     when the disk does.
 *
 * Each life ends with two restarts on a good disk, one of them of the machine,
 * which forgets what was not synced, in either order.  All that was
 * acknowledged is there; of what was refused only the batch that met an error
 * (KV_UNAVAILABLE) may be, as a whole; what was there after the first restart
 * is there after the second.
 */

/* long */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "solo.h"


#define IDS      10u
#define BATCH    4u                  /* operations at most */
#define FOREVER  10000u              /* more calls than a life has */
#define TWO      1000u               /* lives with two failures */


typedef enum {
    START = 0,
    STOP,
    KILL,
    WRITE,                           /* some operations, one batch */
    LARGE,                           /* the same, of values of 9 to 12 KiB */
    CLEAR,
    SPARE,
    SNAPSHOT
} verb_t;


typedef struct {
    verb_t    verb;
    unsigned  n;
} step_t;


typedef struct {
    uint32_t  version[IDS];          /* 0: not there */
    uint32_t  len[IDS];
} state_t;


/* How a write may be answered whose calls met an error. */

#define DONE     1u                  /* it did not matter */
#define FULL     2u                  /* KV_NO_SPACE */
#define FAILED   4u                  /* KV_UNAVAILABLE, until a restart */
#define REFUSED  8u                  /* KV_REFUSED */

typedef struct {
    ram_call_t   call;
    int          error;
    unsigned     answers;
    bool         unseen;             /* by starts and snapshots as well */
} rule_t;


static const rule_t  rules[] = {
    { RAM_OPEN, EIO, DONE|FAILED, false },
    { RAM_OPEN, ENOSPC, DONE|FULL, false },
    { RAM_OPEN, EMFILE, DONE|REFUSED, false },
    { RAM_OPEN, EINTR, DONE|REFUSED, false },
    { RAM_CLOSE, EIO, DONE, true },
    { RAM_CLOSE, EINTR, DONE, true },
    { RAM_READ, EIO, DONE|FAILED, false },
    { RAM_READ, ENOMEM, DONE|REFUSED, false },
    { RAM_READ, EINTR, DONE, true },
    { RAM_READ, RAM_SHORT, DONE, true },
    { RAM_WRITE, EIO, DONE|FAILED, false },
    { RAM_WRITE, RAM_HALF, DONE|FAILED, false },
    { RAM_WRITE, ENOSPC, DONE|FULL, false },
    { RAM_WRITE, EDQUOT, DONE|FULL, false },
    { RAM_WRITE, EFBIG, DONE|FULL, false },
    { RAM_WRITE, ENOMEM, DONE|REFUSED, false },
    { RAM_WRITE, EAGAIN, DONE|REFUSED, false },
    { RAM_WRITE, EINTR, DONE, true },
    { RAM_WRITE, RAM_SHORT, DONE, true },
    { RAM_FDATASYNC, EIO, DONE|FAILED, false },
    { RAM_FDATASYNC, ENOSPC, DONE|FULL|FAILED, false },
    { RAM_FDATASYNC, ENOMEM, DONE|REFUSED|FAILED, false },
    { RAM_FDATASYNC, EINTR, DONE|REFUSED|FAILED, false },
    { RAM_FSYNC, EIO, DONE|FAILED, false },
    { RAM_FSYNC, ENOSPC, DONE|FULL, false },
    { RAM_FSYNC, ENOMEM, DONE|REFUSED, false },
    { RAM_FALLOCATE, EIO, DONE|FAILED, false },
    { RAM_FALLOCATE, ENOSPC, DONE|FULL, false },
    { RAM_FALLOCATE, EINTR, DONE, true },
    { RAM_FALLOCATE, EOPNOTSUPP, DONE, true },
    { RAM_TRUNCATE, EIO, DONE|FAILED, false },
    { RAM_RENAME, EIO, DONE|FAILED, false },
    { RAM_RENAME, ENOSPC, DONE|FULL, false },
    { RAM_RENAME, EACCES, DONE|REFUSED, false },
    { RAM_UNLINK, EIO, DONE, false },
    { RAM_SIZE, EIO, DONE|FAILED, false },
    { RAM_LIST, EIO, DONE|FAILED, false },
    { RAM_LIST, EMFILE, DONE|REFUSED, false },
    { RAM_DIRECT, EINVAL, DONE, true },
    { RAM_DIRECT, EIO, DONE, true }
};

#define RULES  (sizeof(rules) / sizeof(rules[0]))


/*
 * Segments end with a spare at hand, recycled or new, and without; snapshots
 * are the first, the second, and one that makes others superfluous.
 */

static const step_t  life[] = {
    { START, 0 }, { WRITE, 3 }, { WRITE, 1 }, { SNAPSHOT, 0 }, { LARGE, 4 },
    { SPARE, 0 }, { LARGE, 4 }, { WRITE, 2 }, { LARGE, 4 }, { SNAPSHOT, 0 },
    { WRITE, 4 }, { STOP, 0 },
    { START, 0 }, { WRITE, 1 }, { CLEAR, 0 }, { LARGE, 3 }, { KILL, 0 },
    { START, 0 }, { LARGE, 4 }, { SNAPSHOT, 0 }, { LARGE, 2 }, { WRITE, 3 },
    { STOP, 0 },
    { START, 0 }, { WRITE, 2 }
};

#define STEPS  (sizeof(life) / sizeof(life[0]))


static uint64_t      seed;
static uint32_t      version;
static state_t       model;          /* what was acknowledged */
static state_t       other;          /* and with what met an error, if */
static state_t       less;           /* the same without its puts */
static bool          doubtful;       /* there is such a batch */
static bool          failed;         /* no writes until a restart */
static const rule_t *armed[RAM_FAULTS];
static char          what[200];
static char          where[64];

static struct {
    uint64_t  lives;
    uint64_t  failures;              /* calls that were made to fail */
    uint64_t  answers[16];
    uint64_t  starts_failed;
    uint64_t  snapshots_failed;
    uint64_t  snapshots;
    uint64_t  came_true;             /* doubtful ones that were there */
} sum;


static uint32_t
rnd(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (uint32_t) (seed >> 16) % n;
}


static bool
is(const state_t *s)
{
    kv_rc_t   rc;
    uint32_t  id, v, len, keys;

    for (id = 0, keys = 0; id < IDS; id++) {
        rc = kit_get(&solo.host, id, &v, &len);

        if (s->version[id] == 0) {
            if (rc != KV_NOT_FOUND) {
                return false;
            }

            continue;
        }

        keys++;

        if (rc != KV_OK || v != s->version[id] || len != s->len[id]) {
            return false;
        }
    }

    return atomic_load(&solo.host.store->zone->map.keys) == keys;
}


/* The calls that failed since the last time; what may follow from them. */

static unsigned
hits(bool *unseen)
{
    unsigned  i, n, answers;

    static unsigned  before[RAM_FAULTS];

    *unseen = true;
    answers = DONE;

    for (i = 0, n = 0; i < RAM_FAULTS; i++) {

        if (solo.ram.fault[i].hits == before[i]) {
            continue;
        }

        n += solo.ram.fault[i].hits > before[i];
        before[i] = solo.ram.fault[i].hits;

        if (before[i] && armed[i]) {
            answers |= armed[i]->answers;
            *unseen = *unseen && armed[i]->unseen;
        }
    }

    return n ? answers : DONE;
}


static kv_rc_t
begin(uint32_t id, uint32_t len, kv_op_t **op)
{
    char    key[32];
    size_t  n;

    if (len) {
        return kit_begin_put(&solo.host, id, version, len, op);
    }

    n = kit_key(id, key);

    return kv_store_delete(solo.host.store, key, (uint16_t) n, op);
}


/* What the answer means, and whether it may be that. */

static void
judge(kv_rc_t rc, const state_t *next, const state_t *gone)
{
    bool         unseen;
    unsigned     may, answer;
    kv_zone_t   *zone;

    zone = solo.host.store->zone;
    may = hits(&unseen);

    switch (rc) {

    case KV_OK:
        answer = DONE;
        model = *next;
        break;

    case KV_NO_SPACE:
        answer = FULL;
        break;

    case KV_REFUSED:
        answer = REFUSED;
        break;

    case KV_UNAVAILABLE:
        answer = !kv_state_writes(zone) ? FAILED : 0;
        break;

    default:
        answer = 0;
    }

    if (failed) {
        may = FAILED;                /* of old */

    } else if (answer == FAILED) {
        failed = true;
        doubtful = true;
        other = *next;
        less = *gone;
    }

    sum.answers[answer]++;

    if (!(may & answer)) {
        fail_msg("%s: %s: rc %d, failed %u", what, where, rc,
                 !kv_state_writes(zone));
    }

    if (answer != DONE && solo.warnings == 0) {
        fail_msg("%s: %s: refused, but nothing was said", what, where);
    }

    /* one that went well may have been smaller than one that was refused */

    if (kv_store_healthy(solo.host.store) != (answer == DONE)
        && (answer != DONE || !kv_state_refuses(zone)))
    {
        fail_msg("%s: %s: rc %d, but health says otherwise", what, where, rc);
    }

    /* no background task here does what health requested */

    atomic_store(&zone->requests, 0);
}


/*
 * The answer to the batch, except its puts where these get another one: if the
 * disk is full, or the failure may pass, the committer tries deletes alone.
 */

static kv_rc_t
answer_of(const kv_rc_t *rc, const bool *puts, unsigned n)
{
    bool      there[2];
    kv_rc_t   of[2];                 /* the others, the puts */
    unsigned  i;

    there[0] = false;
    there[1] = false;

    for (i = 0; i < n; i++) {

        if (there[puts[i]] && rc[i] != of[puts[i]]) {
            fail_msg("%s: %s: half a batch", what, where);
        }

        there[puts[i]] = true;
        of[puts[i]] = rc[i];
    }

    if (!there[0] || !there[1] || of[0] == of[1]) {
        return rc[0];
    }

    if (of[1] != KV_NO_SPACE && of[1] != KV_REFUSED) {
        fail_msg("%s: %s: half a batch: puts %d, others %d", what, where,
                 of[1], of[0]);
    }

    return of[0];
}


static void
write_some(verb_t verb, unsigned n)
{
    bool       puts[BATCH];
    kv_rc_t    answer, rc[BATCH];
    state_t    next, gone;
    kv_op_t   *op[BATCH];
    uint32_t   id, len;
    unsigned   i, begun;

    next = model;
    gone = model;
    n = verb == CLEAR ? 1 : n;

    for (i = 0, begun = 0; i < n; i++) {
        version++;
        id = rnd(IDS);
        len = rnd(6) == 0 ? 0 : 8 + rnd(100);
        len = verb == LARGE ? 9000 + rnd(3000) : len;

        if (verb == CLEAR) {
            memset(&next, 0, sizeof(next));
            memset(&gone, 0, sizeof(gone));
            puts[0] = false;
            rc[0] = kv_store_clear(solo.host.store, &op[0]);

        } else {
            next.version[id] = len ? version : 0;
            next.len[id] = len;
            gone.version[id] = len ? gone.version[id] : 0;
            puts[begun] = len != 0;
            rc[0] = begin(id, len, &op[begun]);
        }

        if (rc[0] == KV_OK) {
            begun++;

        } else if (rc[0] != KV_UNAVAILABLE || !failed) {
            fail_msg("%s: %s: it cannot begin: %d", what, where, rc[0]);
        }
    }

    if (begun == 0) {
        judge(KV_UNAVAILABLE, &next, &gone);
        return;
    }

    solo_commit(&solo, op, begun, rc);

    answer = answer_of(rc, puts, begun);

    for (i = 0; i < begun; i++) {
        if (puts[i] && rc[i] != answer) {
            next = gone;
        }
    }

    judge(answer, &next, &gone);
}


static void
start(void)
{
    bool      unseen;
    kv_rc_t   rc;
    unsigned  tries;

    for (tries = 0; (rc = solo_start(&solo)) != KV_OK; tries++) {

        (void) hits(&unseen);

        if (rc != KV_ERROR || unseen || solo.err.text[0] == '\0') {
            fail_msg("%s: %s: rc %d: %s", what, where, rc, solo.err.text);
        }

        sum.starts_failed++;

        if (tries == 4) {

            /* as often as it likes: the disk is replaced */

            solo.ram.fault[0].nth = 0;
            solo.ram.fault[1].nth = 0;
        }
    }

    if (doubtful && is(&other)) {
        model = other;
        sum.came_true++;

    } else if (doubtful && is(&less)) {
        model = less;
        sum.came_true++;
    }

    doubtful = false;
    failed = false;
    (void) hits(&unseen);
}


static void
snapshot(void)
{
    bool        unseen;
    uint64_t    good, bad;
    kv_zone_t  *zone;

    zone = solo.host.store->zone;

    good = atomic_load(&zone->snapshots);
    bad = atomic_load(&zone->snapshots_failed);

    solo_background(&solo, KV_REQUEST_SNAPSHOT);

    (void) hits(&unseen);

    good = atomic_load(&zone->snapshots) - good;
    bad = atomic_load(&zone->snapshots_failed) - bad;

    sum.snapshots += good;
    sum.snapshots_failed += bad;

    /* what is not on disk cannot be in one either */

    if (good + bad > 1 || (bad && unseen && !failed)
        || (!kv_state_writes(zone) && !failed))
    {
        fail_msg("%s: %s: %" PRIu64 " good, %" PRIu64 " failed", what, where,
                 good, bad);
    }
}


static void
run(const step_t *s)
{
    bool  unseen;

    switch (s->verb) {

    case START:
        start();
        break;

    case STOP:
    case KILL:
        solo_stop(&solo, s->verb == STOP);
        (void) hits(&unseen);
        return;

    case WRITE:
    case LARGE:
    case CLEAR:
        write_some(s->verb, s->n);
        break;

    case SPARE:
        solo_background(&solo, KV_REQUEST_SEGMENT);
        (void) hits(&unseen);
        break;

    case SNAPSHOT:
        snapshot();
        break;
    }

    if (!is(&model)) {
        fail_msg("%s: %s: reads do not give what was acknowledged", what,
                 where);
    }
}


/* On a good disk, after the last step; `reboot` before or after. */

static void
last_rites(bool reboot)
{
    unsigned  i, k;

    memset(solo.ram.fault, 0, sizeof(solo.ram.fault));

    for (i = 0; i < 2; i++) {
        (void) snprintf(where, sizeof(where), "restart %u%s", i,
                        reboot == (i == 0) ? " of the machine" : "");
        solo_stop(&solo, false);

        if (reboot == (i == 0)) {
            ram_reboot(&solo.ram);
        }

        run(&(step_t) { START, 0 });

        /*
         * such as of a snapshot that got its name and is not good; but the
         * note of a clean end may have been one that could not be deleted
         */

        if (solo.warnings != solo.old_notes) {
            fail_msg("%s: %s: there were warnings", what, where);
        }

        for (k = 0; k < RAM_FILES; k++) {
            if (strstr(solo.ram.file[k].name, ".tmp")) {
                fail_msg("%s: %s: %s is still there", what, where,
                         solo.ram.file[k].name);
            }
        }
    }

    (void) snprintf(where, sizeof(where), "new writes");
    run(&(step_t) { WRITE, 2 });
    run(&(step_t) { LARGE, 4 });
    run(&(step_t) { SNAPSHOT, 0 });
    run(&(step_t) { LARGE, 4 });

    if (failed || !kv_store_healthy(solo.host.store)) {
        fail_msg("%s: no writes on a good disk", what);
    }

    solo_stop(&solo, false);
}


/* One life; whether all faults were met. */

static bool
live(bool direct, bool reboot)
{
    bool      met, unseen;
    unsigned  i;

    ram_clear(&solo.ram);
    memset(solo.ram.calls, 0, sizeof(solo.ram.calls));
    solo.ram.can_direct = direct;

    seed = 88172645463325252ull;
    version = 0;
    memset(&model, 0, sizeof(model));
    doubtful = false;
    failed = false;
    (void) hits(&unseen);

    for (i = 0; i < STEPS; i++) {
        (void) snprintf(where, sizeof(where), "step %u", i);
        run(&life[i]);
    }

    met = true;

    for (i = 0; i < RAM_FAULTS; i++) {
        sum.failures += solo.ram.fault[i].hits;
        met = met && (armed[i] == NULL || solo.ram.fault[i].hits);
    }

    last_rites(reboot);
    sum.lives++;

    return met;
}


static void
arm(unsigned i, const rule_t *rule, unsigned nth, unsigned times)
{
    ram_fault_t  *f;

    armed[i] = rule;
    f = &solo.ram.fault[i];
    memset(f, 0, sizeof(ram_fault_t));

    f->call = rule->call;
    f->error = rule->error;
    f->nth = nth;
    f->times = times;
}


static int
setup(void **state)
{
    (void) solo_setup(state);

    solo.conf.max_value = 12 << 10;

    armed[0] = NULL;
    armed[1] = NULL;
    (void) snprintf(what, sizeof(what), "a good disk");

    return 0;
}


static int
teardown(void **state)
{
    (void) solo_teardown(state);

    if (getenv("KIT_SUM")) {
        (void) fprintf(stderr, "%" PRIu64 " lives, %" PRIu64 " calls failed; "
                       "writes: %" PRIu64 " done, %" PRIu64 " full, %" PRIu64
                       " failed, %" PRIu64 " refused; %" PRIu64 " starts "
                       "failed; snapshots: %" PRIu64 ", %" PRIu64 " failed; %"
                       PRIu64 " in doubt came true\n", sum.lives,
                       sum.failures, sum.answers[DONE], sum.answers[FULL],
                       sum.answers[FAILED], sum.answers[REFUSED],
                       sum.starts_failed, sum.snapshots, sum.snapshots_failed,
                       sum.came_true);
    }

    memset(&sum, 0, sizeof(sum));

    return 0;
}


/* Without failures: the life is as it is meant to be. */

static void
test_good_disk(void **state)
{
    unsigned  direct, call;

    (void) state;

    for (direct = 0; direct < 2; direct++) {
        (void) live(direct, true);

        for (call = 0; call < RAM_CALLS; call++) {
            if (solo.ram.calls[call] == 0 && call != RAM_TRUNCATE) {
                fail_msg("no call of kind %u", call);
            }
        }
    }

    assert_int_equal(sum.answers[DONE] % 2, 0);
    assert_int_equal(sum.answers[FULL] + sum.answers[FAILED]
                     + sum.answers[REFUSED] + sum.starts_failed
                     + sum.snapshots_failed, 0);
    assert_int_equal(sum.snapshots, 2 * 4);
}


/* Every call of every kind, with every error of it. */

static void
every_call(bool direct, unsigned times)
{
    bool      met;
    unsigned  i, nth;

    for (i = 0; i < RULES; i++) {

        for (nth = 1, met = true; met; nth++) {
            (void) snprintf(what, sizeof(what), "call %u, error %d, %u times "
                            "from %u on, direct %u", rules[i].call,
                            rules[i].error, times, nth, direct);
            arm(0, &rules[i], nth, times);
            met = live(direct, nth % 2);
        }

        if (nth == 2 && rules[i].call != RAM_TRUNCATE
            && (direct || rules[i].call != RAM_DIRECT))
        {
            fail_msg("%s: there was no such call", what);
        }
    }
}


/* All kinds of answers were given, or the sweep did not go where it should. */

static void
all_seen(void)
{
    assert_true(sum.answers[DONE] && sum.answers[FULL] && sum.answers[FAILED]
                && sum.answers[REFUSED] && sum.starts_failed
                && sum.snapshots_failed && sum.came_true);
}


static void
test_once(void **state)
{
    (void) state;

    every_call(false, 1);
    every_call(true, 1);
    all_seen();
}


static void
test_for_a_while(void **state)
{
    (void) state;

    every_call(true, 5);
    all_seen();
}


static void
test_for_good(void **state)
{
    (void) state;

    every_call(true, FOREVER);
    all_seen();
}


/* A transfer that comes short, and the rest of it fails. */

static void
test_short_then_error(void **state)
{
    bool           met;
    unsigned       i, direct, nth;
    const rule_t  *shorts;

    (void) state;

    for (shorts = rules; shorts < rules + RULES; shorts++) {

        if (shorts->error != RAM_SHORT) {
            continue;
        }

        for (i = 0; i < RULES; i++) {

            if (rules[i].call != shorts->call || &rules[i] == shorts) {
                continue;
            }

            for (direct = 0; direct < 2; direct++) {
                for (nth = 1, met = true; met; nth++) {
                    (void) snprintf(what, sizeof(what), "call %u, %u is "
                                    "short, the next has error %d, direct %u",
                                    shorts->call, nth, rules[i].error,
                                    direct);
                    arm(0, shorts, nth, 1);
                    arm(1, &rules[i], nth + 1, 1);
                    met = live(direct, nth % 2);
                }
            }
        }
    }
}


/* Two of any kinds, at any time. */

static void
test_two(void **state)
{
    unsigned  round, i;
    uint64_t  mine, used;

    (void) state;

    mine = getenv("KIT_SEED") ? strtoull(getenv("KIT_SEED"), NULL, 10)
                              : kv_now_ns() | 1;

    for (round = 0; round < TWO; round++) {
        used = mine;
        seed = mine;

        for (i = 0; i < RAM_FAULTS; i++) {
            arm(i, &rules[rnd(RULES)], 1 + rnd(rnd(2) ? 12 : 60), 1 + rnd(3));
        }

        i = rnd(8);
        mine = seed;
        solo.conf.cluster = KIT_CLUSTERS && i & 4 ? KIT_ADDRESS : kit_cluster();

        (void) snprintf(what, sizeof(what), "two errors, KIT_SEED=%" PRIu64,
                        used);
        (void) live(i & 1, i & 2);
    }

    all_seen();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_good_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_for_a_while, setup, teardown),
        cmocka_unit_test_setup_teardown(test_for_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_short_then_error, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_two, setup, teardown)
    };

    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
