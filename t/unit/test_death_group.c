
/*
 * A group, and deaths: of the committer before, while and after it applies the
 * group, and of the worker that submits it.  While it is applied, a reader sees
 * nothing of it; what its worker is told is what happened, all or nothing.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "death_rig.h"


#define SOME    6u                 /* keys that are there before: 1 to SOME, */
#define NUMBER  7u                 /* and a number, 7 */
#define NEW     8u                 /* one that is not there */
#define KEYS_   12u                /* ids are below */
#define UNITS   8u


static kv_store_t  *asker;         /* a worker that lives */
static kv_group_t   group[UNITS];
static kv_op_t     *unit[UNITS];   /* a group's, or an operation */
static kv_rc_t      rc[UNITS];
static uint64_t     lsn[UNITS];    /* the first of a group's, or its own */
static unsigned     member[UNITS]; /* which has failed, from 0 */
static unsigned     n;
static uint64_t     before[KEYS_]; /* LSNs of the keys */

static const char  *failpoint;
static int          after;


/* ---- keys */


static kv_rc_t
look_up(uint32_t id, uint64_t *found)
{
    char         key[32];
    size_t       len;
    kv_rc_t      result;
    kv_entry_t  *e;

    *found = 0;
    len = kit_key(id, key);
    result = kv_store_read(asker, key, len, &e);

    if (result == KV_OK) {
        *found = kv_store_version(asker, e).lsn;
        kv_store_read_done(asker);
    }

    return result;
}


/* The same for a reader that cannot come back; it sees a whole value. */

static uint64_t
look_now(uint32_t id)
{
    char         key[32];
    size_t       len;
    kv_rc_t      result;
    uint32_t     version;
    uint64_t     found;
    kv_entry_t  *e;

    len = kit_key(id, key);
    result = kv_store_read_now(asker, key, len, &e);

    if (result == KV_NOT_FOUND) {
        return 0;
    }

    assert_int_equal(result, KV_OK);
    assert_true(id == NUMBER || kit_check(e, id, &version));

    found = kv_store_version(asker, e).lsn;
    kv_store_read_done(asker);

    return found;
}


static uint64_t
lsn_of(uint32_t id)
{
    uint64_t  found;

    assert_int_not_equal(look_up(id, &found), KV_AGAIN);
    assert_int_equal(look_now(id), found);

    return found;
}


static void
attach(void)
{
    assert_int_equal(kv_store_attach(&asker, &death_kit.conf, death_kit.mem,
                                     &death_kit.io->io, death_kit.dirfd,
                                     &death_kit.err), KV_OK);
    assert_int_equal(kv_store_enter(asker), KV_OK);
}


static void
start(void)
{
    char      key[32];
    host_t    host;
    kv_op_t  *op;
    uint32_t  id;
    uint16_t  len;

    n = 0;
    memset(group, 0, sizeof(group));
    death_kit.conf.list = true;

    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    for (id = 1; id <= SOME; id++) {
        assert_int_equal(kit_put(&host, id, 1, id == 6 ? 20000 : 100, NULL),
                         KV_OK);
    }

    len = (uint16_t) kit_key(NUMBER, key);

    assert_int_equal(kv_store_increment(host.store, key, len, 7, 0, &op),
                     KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);
    assert_true(host_stop(&host));

    attach();

    for (id = 0; id < KEYS_; id++) {
        before[id] = lsn_of(id);
    }
}


/* As in memory, from disk; and nothing is left of what was not done. */

static void
finish(void)
{
    host_t       host;
    uint32_t     id;
    uint64_t     now[KEYS_];
    const char  *wrong;

    for (id = 0; id < KEYS_; id++) {
        now[id] = lsn_of(id);
    }

    kv_store_leave(asker);
    kv_store_destroy(asker);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    wrong = kit_settle(&host);

    if (wrong) {
        fail_msg("%s, %d: %s", failpoint, after, wrong);
    }

    assert_true(host_stop(&host));
    kit_stop(&death_kit);

    assert_int_equal(kit_start(&death_kit), KV_OK);
    attach();

    for (id = 0; id < KEYS_; id++) {
        assert_int_equal(lsn_of(id), now[id]);
    }

    kv_store_leave(asker);
    kv_store_destroy(asker);
    kit_stop(&death_kit);
    death_clean_directory();
}


/* ---- operations */


static kv_op_t *
begin(host_t *host, uint8_t code, uint32_t id, uint8_t flag, uint64_t version)
{
    char          key[32];
    kv_rc_t       result;
    kv_op_t      *op;
    uint16_t      len;
    kv_version_t  v;

    len = (uint16_t) kit_key(id, key);

    switch (code) {

    case KV_OP_PUT:
        result = kit_begin_put(host, id, 10, id == 5 ? 30000 : 100, &op);
        break;

    case KV_OP_DELETE:
        result = kv_store_delete(host->store, key, len, &op);
        break;

    case KV_OP_TOUCH:
        result = kv_store_touch(host->store, key, len, 1000, &op);
        break;

    default:
        result = kv_store_increment(host->store, key, len, 1, 0, &op);
    }

    assert_int_equal(result, KV_OK);

    if (flag) {
        v.lsn = version;
        v.incarnation = 0;
        kv_store_if(op, flag, &v);
    }

    return op;
}


static host_t *
asking(void)
{
    static host_t  host;

    memset(&host, 0, sizeof(host));
    host.store = asker;

    return &host;
}


static void
ask_group(void)
{
    assert_int_equal(kv_store_group(asker, &group[n]), KV_OK);
    unit[n] = group[n].op;
    n++;
}


static void
add(uint8_t code, uint32_t id, uint8_t flag, uint64_t version)
{
    kv_op_t  *op;

    op = begin(asking(), code, id, flag, version);

    assert_int_equal(kv_store_group_add(asker, &group[n - 1], op), KV_OK);
}


static void
ask(uint8_t code, uint32_t id, uint8_t flag, uint64_t version)
{
    unit[n++] = begin(asking(), code, id, flag, version);
}


/* Leaves the commit to another process. */

static void
submit(void)
{
    unsigned  i;

    for (i = 0; i < n; i++) {
        kv_store_unclaim(asker, kv_store_submit(asker, unit[i]));
    }
}


static void
commits_and_dies(host_t *host)
{
    kv_failpoint_arm(failpoint, after);

    for ( ;; ) {
        host_process_events(host, 10);
    }
}


static void
learn(unsigned i)
{
    kv_op_t   *op, *failed;
    unsigned   k;
    uint64_t   first;

    if (group[i].op == NULL) {
        lsn[i] = unit[i]->lsn;
        return;
    }

    first = kv_store_group_first(&group[i])->lsn;
    failed = rc[i] == KV_OK ? NULL : kv_store_group_failed(unit[i]);

    for (op = kv_store_group_first(&group[i]), k = 0;
         op;
         op = kv_store_group_next(op), k++)
    {
        if (op == failed) {
            member[i] = k;
        }

        if (rc[i] == KV_OK) {
            assert_int_equal(op->lsn, first + k);
        }
    }

    lsn[i] = first;
}


/* Another takes over, and all is answered. */

static void
answers(void)
{
    host_t    host;
    unsigned  i;
    uint64_t  end;

    death_child_dies(commits_and_dies);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    end = kit_now_ms() + PATIENCE;

    for (i = 0; i < n; i++) {

        while (!kv_store_done(unit[i], &rc[i])) {
            assert_true(kit_now_ms() < end);
            host_process_events(&host, 10);
        }

        learn(i);
        kv_store_release(asker, unit[i]);
    }

    assert_int_equal(atomic_load(&asker->zone->rebuilds), 0);
    assert_true(host_stop(&host));
}


/* ---- what readers see */


#define MEMBERS  7u


/* Another kind of change each, of all kinds of values. */

static void
ask_visible(bool touches)
{
    ask_group();
    add(KV_OP_PUT, 1, 0, 0);
    add(KV_OP_DELETE, 2, 0, 0);
    add(KV_OP_PUT, NEW, 0, 0);
    add(KV_OP_INCR, NUMBER, 0, 0);
    add(KV_OP_PUT, 5, 0, 0);
    add(KV_OP_DELETE, 6, 0, 0);

    if (touches) {
        add(KV_OP_TOUCH, 4, 0, 0);

    } else {
        add(KV_OP_PUT, 4, 0, 0);
    }
}


static bool
visit(void *ctx, const void *key, size_t len, const kv_entry_t *e,
    uint64_t expires)
{
    unsigned  *visited = ctx;

    (void) key;
    (void) len;
    (void) expires;

    *visited += e != NULL;

    return true;
}


/*
 * Half applied: all is as before, or there is no answer now, but for a reader
 * that cannot come back.  A key that was not touched yet, and key 3, are there
 * to read.
 */

static void
see_nothing(bool touches)
{
    kv_rc_t    result;
    uint32_t   id;
    uint64_t   found;
    unsigned   visited, again;

    again = 0;

    for (id = 0; id < KEYS_; id++) {
        result = look_up(id, &found);
        again += result == KV_AGAIN;

        if (result != KV_AGAIN
            && (found != before[id] || found == 0 || touches))
        {
            fail_msg("%s, %d: key %u: result %d, LSN %llu", failpoint, after,
                     id, result, (unsigned long long) found);
        }

        if (look_now(id) != before[id]) {
            fail_msg("%s, %d: key %u: LSN %llu", failpoint, after, id,
                     (unsigned long long) look_now(id));
        }
    }

    assert_true(touches || look_up(3, &found) == KV_OK);
    assert_true(again >= (unsigned) after - 1);

    visited = 0;
    assert_int_equal(kv_store_list(asker, "", 0, false, visit, &visited),
                     KV_AGAIN);
    assert_int_equal(visited, 0);
}


static void
see_all(uint64_t first)
{
    uint32_t  id;
    unsigned  visited;

    assert_int_equal(lsn_of(1), first);
    assert_int_equal(lsn_of(2), 0);
    assert_int_equal(lsn_of(3), before[3]);
    assert_int_equal(lsn_of(NEW), first + 2);
    assert_int_equal(lsn_of(NUMBER), first + 3);
    assert_int_equal(lsn_of(5), first + 4);
    assert_int_equal(lsn_of(6), 0);

    visited = 0;
    assert_int_equal(kv_store_list(asker, "", 0, false, visit, &visited),
                     KV_OK);

    for (id = 0; id < KEYS_; id++) {
        visited -= lsn_of(id) != 0;
    }

    assert_int_equal(visited, 0);
}


/* The zone is rebuilt with the group, which was in the log. */

static void
rebuild(uint64_t first)
{
    host_t    host;
    uint64_t  end;

    kv_store_leave(asker);
    kv_store_destroy(asker);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    end = kit_now_ms() + PATIENCE;

    while (atomic_load(&death_kit.store->zone->rebuilds) == 0) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 10);
    }

    assert_true(host_stop(&host));

    attach();
    see_all(first);
}


static void
one_visible(const char *where, int nth, bool touches)
{
    uint64_t  first;

    failpoint = where;
    after = nth;

    start();
    first = atomic_load(&asker->zone->wal.next_lsn);
    ask_visible(touches);
    submit();

    death_child_dies(commits_and_dies);

    if (strcmp(where, "GROUP_SHOWN") == 0) {
        see_all(first);

    } else {
        see_nothing(touches);
    }

    rebuild(first);
    finish();
}


static void
test_visible(void **state)
{
    int  i, touches;

    (void) state;

    for (touches = 0; touches < 2; touches++) {
        one_visible("GROUP_HIDDEN", 1, touches);

        for (i = 1; i <= (int) MEMBERS; i++) {
            one_visible("APPLYING", i, touches);
        }

        one_visible("GROUP_SHOWN", 1, touches);
    }
}


/* ---- what is told */


/* A group that is done, and two that are not, for it and for another. */

static void
test_told(void **state)
{
    unsigned  i;
    uint64_t  first;

    static const struct {
        const char  *failpoint;
        int          after;
    } deaths[] = {
        { "NAMED", 1 },
        { "SWAPPED", 1 },
        { "TAKEN", 1 },
        { "ADDED", 1 },
        { "WRITE", 1 },
        { "WRITTEN", 1 },
        { "PROMISED", 1 },
        { "SYNCED", 1 },
        { "APPLIED", 1 },
        { "REPORTING", 1 },
        { "GROUP_DONE", 1 },
        { "REPORTING", 2 },
        { "GROUP_DONE", 2 },
        { "REPORTING", 3 },
        { "GROUP_DONE", 3 },
        { "REPORTING", 4 },
        { "WAKE", 1 },
        { "REPORTED", 1 }
    };

    (void) state;

    for (i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++) {
        failpoint = deaths[i].failpoint;
        after = deaths[i].after;

        start();
        first = atomic_load(&asker->zone->wal.next_lsn);

        ask_group();
        add(KV_OP_PUT, NEW, KV_OP_IF_ABSENT, 0);
        add(KV_OP_DELETE, 1, KV_OP_IF_VERSION, before[1]);
        add(KV_OP_INCR, NUMBER, 0, 0);
        add(KV_OP_PUT, 5, 0, 0);
        add(KV_OP_TOUCH, 3, 0, 0);
        ask(KV_OP_PUT, 2, 0, 0);
        ask_group();
        add(KV_OP_PUT, 4, 0, 0);
        add(KV_OP_DELETE, 6, 0, 0);
        add(KV_OP_PUT, NEW, KV_OP_IF_ABSENT, 0);
        ask_group();
        add(KV_OP_INCR, NUMBER, 0, 0);
        add(KV_OP_PUT, 2, KV_OP_IF_VERSION, before[2]);
        add(KV_OP_DELETE, 6, 0, 0);
        submit();

        answers();

        assert_int_equal(rc[0], KV_OK);
        assert_int_equal(lsn[0], first);
        assert_int_equal(rc[1], KV_OK);
        assert_int_equal(lsn[1], first + 5);
        assert_int_equal(rc[2], KV_PRECONDITION);
        assert_int_equal(member[2], 2);
        assert_int_equal(rc[3], KV_PRECONDITION);
        assert_int_equal(member[3], 1);

        assert_int_equal(atomic_load(&asker->zone->wal.next_lsn), first + 6);
        assert_int_equal(lsn_of(NEW), first);
        assert_int_equal(lsn_of(1), 0);
        assert_int_equal(lsn_of(NUMBER), first + 2);
        assert_int_equal(lsn_of(5), first + 3);
        assert_int_equal(lsn_of(2), first + 5);
        assert_int_equal(lsn_of(3), before[3]);
        assert_int_equal(lsn_of(4), before[4]);
        assert_int_equal(lsn_of(6), before[6]);

        finish();
    }
}


/* ---- the worker dies */


static void
submits_and_dies(host_t *host)
{
    kv_op_t     *op;
    unsigned     i;
    kv_group_t   g;

    assert_int_equal(kv_store_group(host->store, &g), KV_OK);

    for (i = 1; i <= SOME; i++) {
        op = begin(host, i % 2 ? KV_OP_DELETE : KV_OP_PUT, i, 0, 0);

        assert_int_equal(kv_store_group_add(host->store, &g, op), KV_OK);

        if (failpoint == NULL && i == 3) {
            (void) kill(getpid(), SIGKILL);
        }
    }

    kv_failpoint_arm(failpoint, 1);
    (void) kv_store_submit(host->store, g.op);
}


static void
test_worker_dies(void **state)
{
    host_t       host;
    uint32_t     id;
    uint64_t     first;
    unsigned     i;
    const char  *wrong;

    static const char *const  failpoints[] = {
        NULL, "GROUP_QUEUED", "QUEUED", "PUSHED"
    };

    (void) state;

    for (i = 0; i < sizeof(failpoints) / sizeof(failpoints[0]); i++) {
        start();
        first = atomic_load(&asker->zone->wal.next_lsn);
        failpoint = failpoints[i];
        after = 1;

        death_child_dies(submits_and_dies);

        assert_int_equal(host_start(&host, death_kit.store), KV_OK);
        wrong = kit_settle(&host);
        assert_string_equal(wrong ? wrong : "", "");
        assert_true(host_stop(&host));

        for (id = 1; id <= SOME; id++) {
            assert_int_equal(lsn_of(id), i < 3 ? before[id]
                                         : id % 2 ? 0 : first + id - 1);
        }

        finish();
    }
}


/* ---- while the committer lives */


#define PAIRS    500u
#define ROUNDS_  200


/* Two keys far apart in a large group: in each round both are put, or gone. */

static void
submit_round(host_t *host, kv_group_t *g, uint32_t version)
{
    char      key[32];
    kv_op_t  *op;
    uint32_t  id;
    uint16_t  len;

    assert_int_equal(kv_store_group(host->store, g), KV_OK);

    for (id = 0; id < PAIRS; id++) {

        if (version % 4 == 3) {
            len = (uint16_t) kit_key(id, key);
            assert_int_equal(kv_store_delete(host->store, key, len, &op),
                             KV_OK);

        } else {
            assert_int_equal(kit_begin_put(host, id, version, 20, &op), KV_OK);
        }

        assert_int_equal(kv_store_group_add(host->store, g, op), KV_OK);
    }

    host_post_tasks(host, kv_store_submit(host->store, g->op));
}


/*
 * What a reader finds: the version, also of none; 0: ask again, which one that
 * cannot is not told.
 */

static uint32_t
find(host_t *host, uint32_t id, uint32_t version, bool now)
{
    char         key[32];
    kv_rc_t      result;
    uint32_t     found;
    kv_entry_t  *e;

    if (now) {
        result = kv_store_read_now(host->store, key, kit_key(id, key), &e);
        assert_int_not_equal(result, KV_AGAIN);

        if (result == KV_OK) {
            assert_true(kit_check(e, id, &found));
            kv_store_read_done(host->store);
        }

    } else {
        result = kit_get(host, id, &found, NULL);
    }

    if (result == KV_NOT_FOUND) {

        /* of the last round, or of the one under way, which deletes */

        assert_true(version == 1 || version % 4 == 3 || version % 4 == 0);

        return version % 4 == 3 ? version : version - 1;
    }

    assert_true(result == KV_OK || result == KV_AGAIN);

    return result == KV_OK ? found : 0;
}


/* Lists all keys, again until that is done; how many there are. */

static unsigned
list(host_t *host)
{
    kv_rc_t   result;
    unsigned  visited;

    do {
        visited = 0;
        result = kv_store_list(host->store, "", 0, false, visit, &visited);
        assert_true(result == KV_OK || result == KV_AGAIN);

    } while (result == KV_AGAIN);

    return visited;
}


static void
test_readers(void **state)
{
    kv_rc_t        result;
    uint32_t       version, id, found, seen, listed;
    unsigned       again;
    kv_group_t     g;

    /* its threads outlive a failure */

    static host_t  host;

    (void) state;

    death_kit.conf.list = true;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    again = 0;

    for (version = 1; version <= ROUNDS_; version++) {
        submit_round(&host, &g, version);
        seen = version - 1;
        listed = 0;

        while (!kv_store_done(g.op, &result)) {
            id = listed++ * 7919 % PAIRS;
            found = find(&host, id, version, listed % 2);
            again += found == 0;

            if (found && (found < seen || found > version)) {
                fail_msg("key %u is of round %u, behind one of round %u", id,
                         found, seen);
            }

            seen = found ? found : seen;

            if (listed % 16 == 0) {
                found = list(&host);

                assert_true(found == PAIRS || found == 0);

                if (version % 4 == 3 && found == 0) {
                    seen = version;
                }
            }

            (void) sched_yield();
        }

        assert_int_equal(result, KV_OK);
        kv_store_release(host.store, g.op);
        host_process_events(&host, 0);
    }

    if (getenv("KIT_SUM")) {
        (void) fprintf(stderr, "%u times a reader was to ask again\n", again);
    }

    assert_true(host_stop(&host));
    kit_stop(&death_kit);
    death_clean_directory();
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, death_setup, death_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_visible),
        TEST(test_told),
        TEST(test_worker_dies),
        TEST(test_readers)
    };

    return cmocka_run_group_tests_name("death group", tests, NULL, NULL);
}
