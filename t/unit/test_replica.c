
/*
 * A store whose log is a replicated one, of a cluster of one node: which terms,
 * votes and entries it has, whoever commits; and what of them is refused.
 *
 * What any store must hold, it must, too: scripts/test.sh runs other programs
 * in that mode (KV_TEST_CLUSTER in the environment).
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>


#if KV_HAVE_RAFT

#include <errno.h>
#include <stdlib.h>

#include "raft/kv_raft.h"
#include "disk/kv_snapshot.h"
#include "memory/kv_poison.h"
#include "disk.h"
#include "solo.h"


#define OTHER   "[::1]:8081"
#define VALUE   100u


static unsigned  trims;


/* In place of src/raft's; counts. */

kv_rc_t __real_kv_raft_snapshot_taken(kv_raft_t *r, uint64_t now,
    const kv_raft_snapshot_t *s, unsigned trailing);
kv_rc_t __wrap_kv_raft_snapshot_taken(kv_raft_t *r, uint64_t now,
    const kv_raft_snapshot_t *s, unsigned trailing);

kv_rc_t
__wrap_kv_raft_snapshot_taken(kv_raft_t *r, uint64_t now,
    const kv_raft_snapshot_t *s, unsigned trailing)
{
    kv_rc_t  rc;

    rc = __real_kv_raft_snapshot_taken(r, now, s, trailing);
    trims += rc == KV_OK;

    return rc;
}


static int
setup(void **state)
{
    (void) solo_setup(state);

    solo.conf.cluster = KIT_ADDRESS;

    return 0;
}


static kv_wal_state_t *
wal(void)
{
    return &solo.host.store->zone->wal;
}


static kv_wal_replica_t *
replica(void)
{
    return &wal()->replica;
}


static void
start(void)
{
    if (solo_start(&solo) != KV_OK) {
        fail_msg("%s", solo.err.text);
    }
}


static kv_cluster_info_t
info(void)
{
    kv_cluster_info_t  info;

    assert_int_equal(kv_store_cluster_info(solo.host.store, &info), KV_OK);

    return info;
}


static void
put(uint32_t id)
{
    assert_int_equal(solo_put(&solo, id, VALUE), KV_OK);
}


static bool
there(uint32_t id)
{
    uint32_t  version;

    return kit_get(&solo.host, id, &version, NULL) == KV_OK && version == 1;
}


/* The only member: its id; and its address, in static memory. */

static uint64_t
member(const char **address)
{
    uint64_t                    id;
    kv_raft_entry_t            *e;
    struct raft_configuration   conf;

    static char  text[KV_ADDRESS_MAX + 1];

    e = kv_raft_entry_make(1, RAFT_CHANGE, kv_wal_members(wal()),
                           replica()->members_len);
    assert_int_equal(kv_raft_conf_read(e, &conf), KV_OK);
    assert_int_equal(conf.n, 1);
    assert_int_equal(conf.servers[0].role, RAFT_VOTER);

    id = conf.servers[0].id;
    assert_true(strlen(conf.servers[0].address) < sizeof(text));
    strcpy(text, conf.servers[0].address);

    if (address) {
        *address = text;
    }

    raft_configuration_close(&conf);
    kv_raft_entry_drop(e);

    return id;
}


/*
 * The first write makes the cluster: a term and a vote for its first member, an
 * entry that names it, and then a term in which it leads, with a barrier.
 */

static void
test_first(void **state)
{
    const char  *address;

    (void) state;

    start();
    assert_int_equal(replica()->index, 0);
    assert_int_equal(replica()->members_len, 0);
    assert_int_equal(info().role, KV_ROLE_FOLLOWER);
    assert_int_equal(info().term, 0);
    assert_string_equal(info().leader, "");

    put(1);

    assert_int_equal(replica()->term, 2);
    assert_int_equal(replica()->index_term, 2);
    assert_int_equal(replica()->index, 3);
    assert_int_equal(replica()->members_index, 1);
    assert_int_equal(replica()->commit, 2);
    assert_int_equal(replica()->voted_for, member(&address));
    assert_string_equal(address, KIT_ADDRESS);
    assert_int_equal(info().role, KV_ROLE_LEADER);
    assert_int_equal(info().term, 2);
    assert_string_equal(info().leader, KIT_ADDRESS);

    /* no LSN but for what clients did */

    assert_int_equal(atomic_load(&wal()->next_lsn), 2);
    assert_int_equal(atomic_load(&wal()->durable_lsn), 1);

    put(2);
    assert_int_equal(replica()->index, 4);
    assert_int_equal(replica()->commit, 3);
    assert_true(there(1) && there(2));
}


/* Each start leads in a new term, once it writes; it is the same node. */

static void
test_restart(void **state)
{
    unsigned  i;
    uint64_t  id, term, index;

    (void) state;

    start();
    put(1);
    id = member(NULL);

    for (i = 2; i < 8; i++) {
        term = replica()->term;
        index = replica()->index;

        solo_stop(&solo, i % 2);
        start();
        assert_int_equal(replica()->term, term);
        assert_int_equal(replica()->index, index);
        assert_true(there(1) && there(i - 1));

        put(i);
        assert_int_equal(member(NULL), id);
        assert_int_equal(replica()->term, term + 1);
        assert_int_equal(replica()->index_term, term + 1);
        assert_int_equal(replica()->index, index + 2);
        assert_int_equal(replica()->voted_for, id);
    }
}


/* What is only read stays as it is. */

static void
test_read_only(void **state)
{
    unsigned  changes;

    (void) state;

    start();
    put(1);
    solo_stop(&solo, true);

    start();
    changes = solo.ram.changes;
    assert_true(there(1));
    solo_stop(&solo, true);
    assert_int_equal(solo.ram.changes, changes);
}


/*
 * Two handles, as of two processes, commit in turns: whoever did not commit
 * last opens the engine again, and leads in a term of its own.
 */

static void
test_turns(void **state)
{
    unsigned     i;
    uint64_t     term, index;
    kv_store_t  *store[2];

    (void) state;

    start();
    store[0] = solo.host.store;
    assert_int_equal(kv_store_attach(&store[1], &solo.conf, solo.mem,
                                     &solo.ram.io, 3, &solo.err), KV_OK);
    assert_int_equal(kv_store_enter(store[1]), KV_OK);

    put(0);

    for (i = 1; i < 9; i++) {
        term = replica()->term;
        index = replica()->index;

        solo.host.store = store[i / 2 % 2];
        put(i);

        assert_int_equal(replica()->term, term + (i % 2 == 0));
        assert_int_equal(replica()->index, index + 1 + (i % 2 == 0));
    }

    kv_store_leave(store[1]);
    kv_store_destroy(store[1]);
    solo.host.store = store[0];
    solo_stop(&solo, true);

    start();

    for (i = 0; i < 9; i++) {
        assert_true(there(i));
    }
}


/*
 * One votes, and gets no further.  The other one, which led until then, does
 * not write in a term that is over.
 */

static void
test_half_open(void **state)
{
    uint64_t     term;
    kv_store_t  *store[2];

    (void) state;

    start();
    store[0] = solo.host.store;
    assert_int_equal(kv_store_attach(&store[1], &solo.conf, solo.mem,
                                     &solo.ram.io, 3, &solo.err), KV_OK);
    assert_int_equal(kv_store_enter(store[1]), KV_OK);

    put(0);
    term = replica()->term;

    solo.host.store = store[1];
    solo.ram.fault[0].call = RAM_WRITE;
    solo.ram.fault[0].error = ENOMEM;
    solo.ram.fault[0].nth = solo.ram.calls[RAM_WRITE] + 2;
    solo.ram.fault[0].times = 1;
    assert_int_equal(solo_put(&solo, 1, VALUE), KV_REFUSED);
    assert_int_equal(replica()->term, term + 1);
    assert_int_equal(replica()->index_term, term);
    assert_int_equal(info().role, KV_ROLE_FOLLOWER);
    assert_string_equal(info().leader, "");

    solo.host.store = store[0];
    put(2);
    assert_int_equal(info().role, KV_ROLE_LEADER);
    assert_int_equal(info().term, term + 2);
    assert_int_equal(replica()->term, term + 2);
    assert_int_equal(replica()->index_term, term + 2);

    kv_store_leave(store[1]);
    kv_store_destroy(store[1]);
    solo_stop(&solo, false);

    start();
    assert_true(there(0) && there(2) && !there(1));
}


/* What nobody needs any more is not kept in memory for ever. */

static void
test_trimmed(void **state)
{
    unsigned  i;

    (void) state;

    trims = 0;
    start();

    for (i = 0; i < 1100; i++) {
        put(i % 10);
    }

    assert_int_equal(replica()->index, 1102);
    assert_true(trims >= 4);
}


/* A log that is none goes on as one; but not the other way. */

static void
test_plain(void **state)
{
    (void) state;

    solo.conf.cluster = NULL;
    start();
    put(1);
    assert_int_equal(replica()->index, 0);
    solo_stop(&solo, true);

    solo.conf.cluster = KIT_ADDRESS;
    start();
    assert_true(there(1));
    put(2);
    assert_int_equal(replica()->index, 3);
    solo_stop(&solo, false);

    start();
    assert_true(there(1) && there(2));
    put(3);
    solo_stop(&solo, true);

    solo.conf.cluster = NULL;
    assert_int_equal(solo_start(&solo), KV_ERROR);
    assert_non_null(strstr(solo.err.text, "cluster"));

    solo.conf.cluster = KIT_ADDRESS;
    start();
    assert_true(there(1) && there(2) && there(3));
}


/* A snapshot says which entries are in it: all that were applied before it. */

static void
test_snapshot(void **state)
{
    uint64_t             index, term;
    unsigned             i;
    kv_snapshot_guess_t  guess;

    (void) state;

    start();

    for (i = 1; i < 4; i++) {
        put(i);
        put(i + 10);
        index = replica()->index;
        term = replica()->index_term;
        solo_background(&solo, KV_REQUEST_SNAPSHOT);

        kv_snapshot_guess(&solo.ram.io, 3, 2 * i, &guess);
        assert_int_equal(guess.index, index);
        assert_int_equal(guess.term, term);

        solo_stop(&solo, i == 1);
        start();
        assert_true(there(i) && there(i + 10));
        assert_int_equal(replica()->index, index);
    }
}


/* Another address: the same node, and an entry that tells it. */

static void
test_address(void **state)
{
    uint64_t     id, index;
    const char  *address;

    (void) state;

    start();
    put(1);
    id = member(NULL);
    index = replica()->index;
    solo_stop(&solo, true);

    solo.conf.cluster = OTHER;
    start();
    put(2);
    assert_int_equal(member(&address), id);
    assert_string_equal(address, OTHER);
    assert_int_equal(replica()->members_index, index + 1);
    assert_int_equal(replica()->index, index + 3);
    solo_stop(&solo, true);

    start();
    put(3);
    assert_int_equal(replica()->members_index, index + 1);
    assert_true(there(1) && there(2) && there(3));
}


/* A reload changes none of it. */

static void
test_attach(void **state)
{
    kv_store_t       *store;
    kv_store_conf_t   conf;

    static const char *const  others[] = { NULL, OTHER };

    (void) state;

    start();
    conf = solo.conf;

    for (unsigned i = 0; i < 2; i++) {
        conf.cluster = others[i];
        assert_int_equal(kv_store_attach(&store, &conf, solo.mem,
                                         &solo.ram.io, 3, &solo.err),
                         KV_DECLINED);
        assert_non_null(strstr(solo.err.text,
                               "with cluster=" KIT_ADDRESS ": a reload"));
    }

    solo_stop(&solo, true);
    solo.conf.cluster = NULL;
    solo_done(&solo);
    (void) solo_setup(NULL);
    solo.conf.cluster = NULL;
    start();
    conf.cluster = OTHER;
    assert_int_equal(kv_store_attach(&store, &conf, solo.mem, &solo.ram.io, 3,
                                     &solo.err), KV_DECLINED);
    assert_non_null(strstr(solo.err.text, "without cluster=: a reload"));
}


/* This version runs no cluster of more nodes than one. */

static void
test_others(void **state)
{
    uint64_t           id;
    kv_err_t           err;
    kv_wal_entry_t     entry;
    kv_raft_entry_t   *e;
    kv_raft_member_t   members[2];

    (void) state;

    start();
    put(1);
    id = member(NULL);

    members[0].id = id;
    members[0].role = RAFT_VOTER;
    members[0].address = KIT_ADDRESS;
    members[1].id = id + 1;
    members[1].role = RAFT_VOTER;
    members[1].address = OTHER;

    entry.type = KV_ENTRY_CHANGE;
    entry.term = replica()->term;
    entry.index = replica()->index + 1;
    entry.commit = replica()->index;

    e = kv_raft_conf_members(entry.term, members, 2);
    assert_int_equal(kv_wal_put_entry(solo.host.store->wal, &entry, e->data,
                                      e->len, &err), KV_OK);
    kv_raft_entry_drop(e);
    solo_stop(&solo, true);

    assert_int_equal(solo_start(&solo), KV_ERROR);
    assert_non_null(strstr(solo.err.text, "of more nodes than one"));
}


/* Nor one whose members nobody can read, which is told apart. */

static void
test_unreadable(void **state)
{
    kv_err_t        err;
    kv_wal_entry_t  entry;

    (void) state;

    start();
    put(1);

    entry.type = KV_ENTRY_CHANGE;
    entry.term = replica()->term;
    entry.index = replica()->index + 1;
    entry.commit = replica()->index;

    assert_int_equal(kv_wal_put_entry(solo.host.store->wal, &entry, "members?",
                                      8, &err), KV_OK);
    solo_stop(&solo, true);

    assert_int_equal(solo_start(&solo), KV_ERROR);
    assert_non_null(strstr(solo.err.text, "in a form that"));
}


/*
 * One of the calls of the first write fails, or of the first after a restart,
 * whichever it is.  Nothing that the engine would have to take back is there:
 * after a restart, or when the disk is well again, the node leads.
 */

static void
one_fault(ram_call_t call, unsigned nth, int error, bool fresh)
{
    kv_rc_t   rc;
    uint64_t  term;

    ram_clear(&solo.ram);
    ram_init(&solo.ram);
    start();

    if (!fresh) {
        put(1);
        solo_stop(&solo, true);
        start();
    }

    term = replica()->term;
    solo.ram.fault[0].call = call;
    solo.ram.fault[0].error = error;
    solo.ram.fault[0].nth = solo.ram.calls[call] + nth;
    solo.ram.fault[0].times = 1;

    rc = solo_put(&solo, 2, VALUE);
    solo.ram.fault[0].nth = 0;

    if (rc != KV_OK) {
        assert_false(there(2));

        if (!kv_state_writes(solo.host.store->zone)) {
            assert_int_equal(rc, KV_UNAVAILABLE);
            assert_int_equal(solo_put(&solo, 3, VALUE), KV_UNAVAILABLE);
            solo_stop(&solo, false);
            ram_reboot(&solo.ram);
            start();

        } else {
            assert_true(rc == KV_NO_SPACE || rc == KV_REFUSED);
        }
    }

    put(3);
    assert_true(replica()->term > term);
    assert_int_equal(replica()->index_term, replica()->term);
    assert_true(there(3) && (fresh || there(1)) && (rc != KV_OK || there(2)));
    solo_stop(&solo, true);

    start();
    assert_true(there(3));
    put(4);
    solo_stop(&solo, true);
}


static void
test_faults(void **state)
{
    unsigned  i, k, nth, calls;

    static const struct {
        ram_call_t  call;
        int         error;
    } faults[] = {
        { RAM_WRITE, EIO }, { RAM_WRITE, RAM_HALF }, { RAM_WRITE, ENOSPC },
        { RAM_WRITE, ENOMEM }, { RAM_FDATASYNC, EIO }, { RAM_FSYNC, EIO },
        { RAM_FSYNC, ENOSPC }, { RAM_OPEN, EIO }, { RAM_OPEN, EMFILE },
        { RAM_FALLOCATE, ENOSPC }, { RAM_RENAME, EIO }
    };

    (void) state;

    for (k = 0; k < 2; k++) {
        for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {

            ram_clear(&solo.ram);
            ram_init(&solo.ram);
            start();

            if (k) {
                put(1);
                solo_stop(&solo, true);
                start();
            }

            calls = solo.ram.calls[faults[i].call];
            put(2);
            calls = solo.ram.calls[faults[i].call] - calls;
            solo_stop(&solo, true);

            for (nth = 1; nth <= calls; nth++) {
                one_fault(faults[i].call, nth, faults[i].error, k == 0);
            }
        }
    }
}


/* A start on a disk that remembers what was done to it. */

static void
start_on(disk_t *disk)
{
    kv_store_t  *store;

    kv_poison_forget(solo.mem, solo.size);
    memset(solo.mem, 0, kv_store_overhead(solo.size, 2) + KV_PAGE_SIZE);

    if (kv_store_create(&store, &solo.conf, solo.mem, solo.size, 2, &disk->io,
                        DISK_DIR, &solo.err)
        != KV_OK)
    {
        fail_msg("%s", solo.err.text);
    }

    solo.host.store = store;
    assert_int_equal(kv_store_enter(store), KV_OK);
}


static void
stop_on(bool clean)
{
    kv_store_leave(solo.host.store);

    if (clean) {
        kv_store_close(solo.host.store);
    }

    kv_store_destroy(solo.host.store);
    solo.host.store = NULL;
}


/* Three lives; each of their records has the term, and how many puts. */

static uint64_t
live_on(disk_t *disk)
{
    uint64_t  id;
    unsigned  i;

    id = 0;

    for (i = 0; i < 12; i++) {

        if (i % 4 == 0) {
            start_on(disk);
        }

        put(i);
        disk->note = replica()->term;
        disk->seen = i + 1;
        id = member(NULL);

        if (i % 4 == 3) {
            stop_on(i % 8 == 3);
        }
    }

    return id;
}


/*
 * The power goes at any moment.  A term in which the node has led, and so might
 * have sent entries to others, is not its own a second time, and it is still
 * the same node: also where writes are not synced.
 */

static void
test_cuts(void **state)
{
    size_t    at;
    disk_t    disk, image;
    uint64_t  chance, term, puts, id;
    unsigned  i, mode;

    static const kv_sync_t  modes[] = { KV_SYNC_ALWAYS, KV_SYNC_OFF };

    (void) state;

    chance = 88172645463325252ull;

    for (mode = 0; mode < 2; mode++) {
        solo.conf.sync = modes[mode];
        disk_init(&disk);
        id = live_on(&disk);

        for (at = 0; at <= disk.records; at++) {
            memset(&image, 0, sizeof(image));
            (void) disk_cut(&disk, at, &chance, &image);
            term = at < disk.records ? disk.record[at].note : disk.note;
            puts = at < disk.records ? disk.record[at].seen : disk.seen;

            start_on(&image);

            for (i = 0; i < puts && mode == 0; i++) {
                assert_true(there(i));
            }

            put(100);
            assert_true(replica()->term > term);
            assert_true(puts == 0 || member(NULL) == id);
            stop_on(false);
            disk_clear(&image);
        }

        disk_clear(&disk);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_first, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_restart, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_read_only, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_turns, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_half_open, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_trimmed, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_plain, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_snapshot, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_address, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_attach, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_others, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_unreadable, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_faults, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_cuts, setup, solo_teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}


#else


static void
test_no_engine(void **state)
{
    (void) state;

    skip();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_no_engine)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
