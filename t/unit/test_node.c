
/*
 * What a node of a cluster says it is (kv_node.h): what is read was published
 * as a whole, whoever writes meanwhile, or was killed while it did.
 */


/* tsan */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/kv_node.h"


#define PUBLISHED  20000u            /* by a thread, for threads */
#define KILLED     100u              /* processes, while they publish */


/* in memory that processes share */
static kv_node_t  *node;


static int
setup(void **state)
{
    (void) state;

    node = mmap(NULL, sizeof(kv_node_t), PROT_READ|PROT_WRITE,
                MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(node, MAP_FAILED);

    return 0;
}


static int
teardown(void **state)
{
    (void) state;

    (void) munmap(node, sizeof(kv_node_t));

    return 0;
}


/* What is published in a term; only a follower may know no leader. */

static kv_role_t
role_in(uint64_t term)
{
    return (kv_role_t) (term % 3);
}


static void
leader_in(uint64_t term, char *leader)
{
    size_t  n;

    n = term * 7 % (KV_ADDRESS_MAX + 1);
    n += n == 0 && role_in(term) == KV_ROLE_LEADER;

    memset(leader, 'a' + (int) (term % 26), n);
    leader[n] = '\0';
}


static void
publish(uint64_t term)
{
    char  leader[KV_ADDRESS_MAX + 1];

    leader_in(term, leader);
    kv_node_publish(node, role_in(term), term, *leader ? leader : NULL,
                    UINT64_MAX - term);
}


/* Returns the term that it has read; false in *whole: it was not whole. */

static uint64_t
check(bool *whole)
{
    char               leader[KV_ADDRESS_MAX + 1];
    kv_cluster_info_t  info;

    kv_node_read(node, 1, &info);
    leader_in(info.term, leader);

    *whole = info.term == 0
             || (info.role == role_in(info.term)
                 && strcmp(info.leader, leader) == 0);

    return info.term;
}


static void
test_published(void **state)
{
    char               longest[KV_ADDRESS_MAX + 1];
    kv_cluster_info_t  info;

    (void) state;

    kv_node_read(node, 1, &info);
    assert_int_equal(info.role, KV_ROLE_FOLLOWER);
    assert_int_equal(info.term, 0);
    assert_string_equal(info.leader, "");
    assert_false(kv_node_leads(node, 1));

    memset(longest, 'x', KV_ADDRESS_MAX);
    longest[KV_ADDRESS_MAX] = '\0';
    kv_node_publish(node, KV_ROLE_FOLLOWER, 4, longest, 0);
    kv_node_read(node, 1, &info);
    assert_string_equal(info.leader, longest);
    assert_false(kv_node_leads(node, 1));

    kv_node_publish(node, KV_ROLE_CANDIDATE, UINT64_MAX, NULL, 0);
    kv_node_read(node, 1, &info);
    assert_int_equal(info.role, KV_ROLE_CANDIDATE);
    assert_true(info.term == UINT64_MAX);
    assert_string_equal(info.leader, "");

    kv_node_publish(node, KV_ROLE_LEADER, 6, "[::1]:80", 0);
    kv_node_read(node, UINT64_MAX, &info);
    assert_int_equal(info.role, KV_ROLE_LEADER);
    assert_string_equal(info.leader, "[::1]:80");
    assert_true(kv_node_leads(node, UINT64_MAX));
}


/* What its time is over for leads to no leader. */

static void
test_over(void **state)
{
    kv_cluster_info_t  info;

    (void) state;

    kv_node_publish(node, KV_ROLE_LEADER, 6, "a:1", 1000);
    kv_node_read(node, 999, &info);
    assert_int_equal(info.role, KV_ROLE_LEADER);
    assert_string_equal(info.leader, "a:1");
    assert_true(kv_node_leads(node, 999));

    kv_node_read(node, 1000, &info);
    assert_int_equal(info.role, KV_ROLE_FOLLOWER);
    assert_int_equal(info.term, 6);
    assert_string_equal(info.leader, "");
    assert_false(kv_node_leads(node, 1000));

    kv_node_publish(node, KV_ROLE_CANDIDATE, 7, NULL, 1000);
    kv_node_read(node, 1000, &info);
    assert_int_equal(info.role, KV_ROLE_CANDIDATE);

    kv_node_publish(node, KV_ROLE_FOLLOWER, 8, "b:1", 1000);
    kv_node_read(node, 999, &info);
    assert_string_equal(info.leader, "b:1");
    kv_node_read(node, 1000, &info);
    assert_string_equal(info.leader, "");

    /* it leads again */

    kv_node_publish(node, KV_ROLE_LEADER, 8, "a:1", 2000);
    assert_true(kv_node_leads(node, 1000));
}


/* Reads until all is published; whether all of it was whole, and in order. */

static void *
reader(void *data)
{
    bool      whole, *good = data;
    uint64_t  term, last;

    last = 0;
    *good = true;

    while (last < PUBLISHED) {
        term = check(&whole);
        *good = *good && whole && term >= last;
        last = term;
    }

    return NULL;
}


static void
test_whole(void **state)
{
    bool       good[2];
    unsigned   i;
    uint64_t   term;
    pthread_t  thread[2];

    (void) state;

    for (i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, reader, &good[i]),
                         0);
    }

    for (term = 1; term <= PUBLISHED; term++) {
        publish(term);
    }

    for (i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_true(good[i]);
    }
}


/* A writer dies anywhere: what it had published last counts, and the next. */

static void
test_killed(void **state)
{
    bool      whole;
    pid_t     pid;
    unsigned  i;
    uint64_t  first, term;

    (void) state;

    for (i = 0; i < KILLED; i++) {
        first = check(&whole);
        pid = fork();
        assert_true(pid >= 0);

        if (pid == 0) {
            (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        }

        for (term = first + 1; pid == 0; term++) {
            publish(term);
        }

        while (check(&whole) < first + 10) {
            assert_true(whole);
        }

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);

        term = check(&whole);
        assert_true(whole && term >= first + 10);

        publish(term + 1);
        assert_int_equal(check(&whole), term + 1);
        assert_true(whole);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_published, setup, teardown),
        cmocka_unit_test_setup_teardown(test_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown)
    };

    return cmocka_run_group_tests_name("node", tests, NULL, NULL);
}
