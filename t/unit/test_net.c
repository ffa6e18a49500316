
/*
 * The connections between nodes, as long as all are sound: they come to be, and
 * again; they carry frames whole and in order; what a peer does not take waits,
 * up to a bound.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net_rig.h"


/* What node 1 gets of node 0. */
static uint64_t  last;


static int
close_all(void **state)
{
    (void) state;

    net_rig_close();
    net_rig_silent = NET_RIG_PATIENT;

    return 0;
}


static void
start_all(unsigned n)
{
    unsigned  i;

    net_rig_open(n);

    for (i = 0; i < n; i++) {
        net_rig_start(i);
    }

    assert_true(net_rig_until(net_rig_all_up));
}


static bool
has_all(void)
{
    unsigned  i, j;

    for (i = 0; i < net_rig_n; i++) {
        for (j = 0; j < net_rig_n; j++) {
            if (i != j && net_rig[i].seq[j] < 100) {
                return false;
            }
        }
    }

    return true;
}


/* Nine nodes, of which each is connected to all others, and sends to them. */

static void
test_nine(void **state)
{
    unsigned  i, j, seq;

    (void) state;

    start_all(9);

    for (i = 0; i < 9; i++) {
        for (j = 0; j < 9; j++) {
            if (i != j) {
                assert_string_equal(net_rig[i].heard[j], net_rig[j].hello);
            }
        }
    }

    for (seq = 1; seq <= 100; seq++) {
        for (i = 0; i < 9; i++) {
            for (j = 0; j < 9; j++) {
                if (i != j) {
                    assert_true(net_rig_send(i, j, seq, 8 + 100 * seq)
                                 == KV_OK);
                }
            }
        }

        net_rig_step();
    }

    assert_true(net_rig_until(has_all));

    for (i = 0; i < 9; i++) {
        for (j = 0; j < 9; j++) {
            assert_true(net_rig[i].downs[j] == 0);
            assert_int_equal(net_rig[i].frames[j], i == j ? 0 : 100);
        }
    }

    /* one line for each peer, and of the first tries one at most */

    assert_true(net_rig[0].lines >= 8 && net_rig[0].lines <= 16);
}


static bool
has_last(void)
{
    return net_rig[1].seq[0] == last;
}


/* Of all lengths, to the longest. */

static void
test_lengths(void **state)
{
    size_t              len;
    uint64_t            seq;
    kv_net_peer_info_t  info;

    (void) state;

    start_all(2);
    last = 300;

    for (seq = 1; seq <= last; seq++) {

        len = seq == 100 ? NET_RIG_FRAME
              : seq % 10 == 0 ? (size_t) rand() % NET_RIG_FRAME + 8
              : (size_t) rand() % 5000 + 8;

        while (net_rig_send(0, 1, seq, len) == KV_AGAIN) {
            assert_true(net_rig[0].downs[1] == 0);
            net_rig_step();
        }
    }

    assert_true(net_rig_until(has_last));
    assert_true(net_rig[0].downs[1] == 0);
    assert_int_equal(net_rig[1].frames[0], last);

    kv_net_peer_info(net_rig[0].net, 0, &info);
    assert_int_equal(info.sent, last);
    assert_int_equal(info.waits, 0);
    kv_net_peer_info(net_rig[1].net, 0, &info);
    assert_int_equal(info.received, last);
}


static bool
has_one(void)
{
    return net_rig[2].seq[0] == 1;
}


/* Who reads nothing has a bound, and then gets all that was taken for it. */

static void
test_bound(void **state)
{
    uint64_t            seq;
    kv_net_peer_info_t  info;

    (void) state;

    start_all(3);
    net_rig[1].stopped = true;

    for (seq = 1; net_rig_send(0, 1, seq, 100000) == KV_OK; seq++) {
        kv_net_flush(net_rig[0].net);
        assert_true(seq < 1000);

        kv_net_peer_info(net_rig[0].net, 0, &info);
        assert_true(info.waits <= NET_RIG_QUEUE);
    }

    last = seq - 1;
    kv_net_peer_info(net_rig[0].net, 0, &info);
    assert_true(info.up);
    assert_true(info.waits > NET_RIG_QUEUE - 200000);
    assert_int_equal(info.dropped, 1);

    /* another peer is not held up */

    assert_true(net_rig_send(0, 2, 1, 100000) == KV_OK);
    assert_true(net_rig_until(has_one));

    net_rig[1].stopped = false;
    assert_true(net_rig_until(has_last));
    assert_true(net_rig[0].downs[1] == 0);
    assert_int_equal(net_rig[1].frames[0], last);
}


static bool
is_down(void)
{
    return !net_rig[0].up[1];
}


/*
 * Who takes nothing any more is given up in a second, and connected again when
 * it goes on, with what comes then.
 */

static void
test_hangs(void **state)
{
    uint64_t  seq, begun, took;

    (void) state;

    net_rig_silent = NET_RIG_DEFAULT;
    start_all(3);
    net_rig[1].stopped = true;

    for (seq = 1; net_rig_send(0, 1, seq, 100000) == KV_OK; seq++) {
        kv_net_flush(net_rig[0].net);
    }

    begun = kv_now_ns();
    assert_true(net_rig_until(is_down));
    took = (kv_now_ns() - begun) / 1000000;
    assert_in_range(took, 0, NET_RIG_LONG / 2);
    assert_int_equal(net_rig_send(0, 1, seq, 8), KV_AGAIN);

    /* the system takes connections for it meanwhile */

    net_rig_run(1500);
    assert_false(net_rig[0].up[1]);

    net_rig[1].stopped = false;
    assert_true(net_rig_until(net_rig_all_up));

    last = 1000000;
    assert_int_equal(net_rig_send(0, 1, last, 50), KV_OK);
    assert_true(net_rig_until(has_last));
}


/* Nodes end and start again, many times; the others find them. */

static void
test_restarts(void **state)
{
    unsigned  i, round;
    uint64_t  begun, most;

    (void) state;

    start_all(4);
    most = 0;

    for (round = 0; round < 20; round++) {
        i = round % 4;
        net_rig_stop(i);
        net_rig_run(round % 3 * 20);
        begun = kv_now_ns();
        net_rig_start(i);
        assert_true(net_rig_until(net_rig_all_up));
        most = kv_max(most, kv_now_ns() - begun);
    }

    for (i = 0; i < 4; i++) {
        assert_true(net_rig[i].ups[(i + 1) % 4] >= 5);
        assert_non_null(strstr(net_rig[i].log, "ended: "));

        /* by two kinds of message for each peer, in ten seconds */

        assert_true(net_rig[i].lines <= 60);
    }

    print_message("connected again after %u ms at most\n",
                  (unsigned) (most / 1000000));
}


/*
 * Another process of the node still listens when the next one begins, which
 * gets its turn when that one ends.
 */

static void
test_reload(void **state)
{
    int  fd;

    (void) state;

    net_rig_open(2);
    fd = net_rig_listen(1);
    net_rig_start(0);
    net_rig_start(1);
    net_rig_run(250);
    assert_false(net_rig[0].up[1]);

    assert_int_equal(close(fd), 0);
    assert_true(net_rig_until(net_rig_all_up));
    assert_null(strstr(net_rig[1].log, "listen"));
}


static bool
all_know(void)
{
    return strcmp(net_rig[0].heard[1], "founded") == 0
           && strcmp(net_rig[2].heard[1], "founded") == 0;
}


/* A hello that changes is told to all, in order with frames. */

static void
test_hello(void **state)
{
    (void) state;

    start_all(3);

    last = 7;
    (void) snprintf(net_rig[1].hello, sizeof(net_rig[1].hello), "founded");
    kv_net_hello(net_rig[1].net, "founded", 7);
    assert_true(net_rig_until(all_know));

    /* and to who comes later */

    net_rig_stop(0);
    net_rig[0].heard[1][0] = '\0';
    net_rig_start(0);
    assert_true(net_rig_until(net_rig_all_up));
    assert_true(all_know());
}


static bool
was_declined(void)
{
    return net_rig[0].hellos[1] >= 4;
}


/* With whom there is nothing to do there is no connection, until there is. */

static void
test_declined(void **state)
{
    uint64_t  begun;

    (void) state;

    net_rig_open(2);
    net_rig[0].declines[1] = true;
    net_rig_start(0);
    net_rig_start(1);

    begun = kv_now_ns();
    assert_true(net_rig_until(was_declined));
    assert_true(kv_now_ns() - begun > 40000000);
    assert_false(net_rig[0].up[1]);
    assert_false(net_rig[1].up[0]);
    assert_int_equal(net_rig_send(0, 1, 1, 8), KV_AGAIN);
    assert_true(net_rig[1].lines < 10);

    net_rig[0].declines[1] = false;
    assert_true(net_rig_until(net_rig_all_up));

    /* it may change its mind later */

    net_rig[0].declines[1] = true;
    kv_net_hello(net_rig[1].net, "another", 7);
    assert_true(net_rig_until(is_down));
}


static void *
wake(void *fd)
{
    (void) usleep(20000);

    if (fd) {
        assert_int_equal(eventfd_write(*(int *) fd, 1), 0);

    } else {
        kv_net_wake(net_rig[0].net);
    }

    return NULL;
}


/*
 * It sleeps until it is woken: by another thread, and by who has an eventfd of
 * the caller's, which is then as it was.
 */

static void
test_wake(void **state)
{
    int          fd, i;
    uint64_t     begun;
    eventfd_t    n;
    pthread_t    thread;

    (void) state;

    fd = eventfd(0, EFD_NONBLOCK);
    assert_true(fd >= 0);
    net_rig_wake = fd;
    start_all(2);
    net_rig_wake = -1;

    for (i = 0; i < 6; i++) {
        net_rig_step();
        begun = kv_now_ns();
        assert_int_equal(pthread_create(&thread, NULL, wake,
                                        i % 2 ? &fd : NULL), 0);

        while (kv_now_ns() - begun < 20000000) {
            kv_net_wait(net_rig[0].net, KV_NET_FOREVER);
        }

        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(eventfd_read(fd, &n), -1);
    }

    net_rig_close();
    assert_int_equal(close(fd), 0);
}


/* A wrong address is refused, and said. */

static void
test_addresses(void **state)
{
    size_t              i;
    kv_err_t            err;
    kv_net_t           *net;
    kv_net_conf_t       conf;
    kv_net_node_t       peer;
    const kv_net_ops_t  none = { 0 };

    const char  *const bad[] = {
        "", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
        "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1: 1", "x:1",
        "127.0.0:1", "::1:80", "[::1]", "[]:80", "[127.0.0.1]:80", "[::1:80",
        "1111111111222222222233333333334444444444:80", "localhost:80"
    };

    const char  *const good[] = {
        "192.0.2.1:1", "192.0.2.1:65535", "[2001:db8::1]:80", "0.0.0.0:80"
    };

    (void) state;

    net_rig_open(1);

    memset(&conf, 0, sizeof(conf));
    conf.zone = "rig";
    conf.self.address = net_rig[0].address;
    conf.peers = &peer;
    conf.n = 1;
    conf.queue = KV_NET_OVERHEAD;
    conf.wake = -1;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        conf.self.listen = i % 2 ? bad[i] : net_rig[0].listen;
        peer.address = "192.0.2.1:8080";
        peer.listen = i % 2 ? "192.0.2.1:1" : bad[i];
        assert_int_equal(kv_net_open(&conf, NULL, 0, &none, NULL, &net, &err),
                         KV_ERROR);
        assert_non_null(strstr(err.text, bad[i]));
        assert_non_null(strstr(err.text, "it must be \"IP:PORT\""));
    }

    conf.self.listen = net_rig[0].listen;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        peer.listen = good[i];
        assert_int_equal(kv_net_open(&conf, NULL, 0, &none, NULL, &net, &err),
                         KV_OK);
        kv_net_close(net);
    }
}


/* By version 6 all is the same. */

static void
test_version6(void **state)
{
    unsigned  i, port;

    (void) state;

    net_rig_open(3);

    for (i = 0; i < 3; i++) {
        port = (unsigned) strtoul(strchr(net_rig[i].listen, ':') + 1, NULL, 10);
        (void) snprintf(net_rig[i].listen, sizeof(net_rig[i].listen),
                        "[::1]:%u", port);
        (void) snprintf(net_rig[i].address, sizeof(net_rig[i].address),
                        "[::1]:%u", 8080 + i);
    }

    for (i = 0; i < 3; i++) {
        net_rig_start(i);
    }

    if (net_rig[0].lines && strstr(net_rig[0].log, "cannot listen")) {
        print_message("no IP of version 6 on this machine\n");
        return;
    }

    assert_true(net_rig_until(net_rig_all_up));
    last = 5;
    assert_int_equal(net_rig_send(0, 1, last, 50), KV_OK);
    assert_true(net_rig_until(has_last));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_teardown(test_nine, close_all),
        cmocka_unit_test_teardown(test_lengths, close_all),
        cmocka_unit_test_teardown(test_bound, close_all),
        cmocka_unit_test_teardown(test_hangs, close_all),
        cmocka_unit_test_teardown(test_restarts, close_all),
        cmocka_unit_test_teardown(test_reload, close_all),
        cmocka_unit_test_teardown(test_hello, close_all),
        cmocka_unit_test_teardown(test_declined, close_all),
        cmocka_unit_test_teardown(test_wake, close_all),
        cmocka_unit_test_teardown(test_addresses, close_all),
        cmocka_unit_test_teardown(test_version6, close_all)
    };

    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
