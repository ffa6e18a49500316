
/*
 * Who can reach the port where nodes listen, and is none, or no sound one:
 * floods, silence, halves, garbage, lengths, wrong names.  Each time the sound
 * nodes stay connected, and the memory and descriptors of them are as before.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_rig.h"


static int            socks[64];
static unsigned       n_socks;

/* of node 0, as a test begins: hellos of node 1, lines in its log */
static unsigned       hellos;
static unsigned       lines;
static uint64_t       begun;

static unsigned char  buf[1 << 17];


static int
start(void **state)
{
    unsigned  i;

    (void) state;

    net_rig_open(3);

    for (i = 0; i < 3; i++) {
        net_rig_start(i);
    }

    assert_true(net_rig_until(net_rig_all_up));
    n_socks = 0;
    hellos = net_rig[0].hellos[1];
    lines = net_rig[0].lines;
    begun = kv_now_ns();

    return 0;
}


static int
finish(void **state)
{
    (void) state;

    while (n_socks) {
        (void) close(socks[--n_socks]);
    }

    net_rig_close();

    return 0;
}


static bool
all_closed(void)
{
    unsigned  i;

    for (i = 0; i < n_socks; i++) {
        if (!net_rig_closed(socks[i])) {
            return false;
        }
    }

    return true;
}


/* A stranger from that IP sends these bytes to node 0. */

static void
attack(const char *ip, const void *data, size_t len)
{
    int  fd;

    fd = net_rig_connect(ip, 0);
    socks[n_socks++] = fd;

    if (len) {
        assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
    }
}


/* Nobody has lost a connection, and frames go on. */

static void
check_sound(void)
{
    unsigned  i, j;

    for (i = 0; i < 3; i++) {
        for (j = 0; j < 3; j++) {
            assert_int_equal(net_rig[i].downs[j], 0);
        }
    }

    assert_true(net_rig_all_up());
}


/* One line, and one in each ten seconds more that it took. */

static void
check_lines(void)
{
    assert_in_range(net_rig[0].lines - lines, 1,
                    1 + (kv_now_ns() - begun) / UINT64_C(10000000000));
}


static unsigned
descriptors(void)
{
    DIR       *dir;
    unsigned   n;

    dir = opendir("/proc/self/fd");
    assert_non_null(dir);

    for (n = 0; readdir(dir); n++) { /* void */ }

    (void) closedir(dir);

    return n;
}


/* All of these are hung up on, at once, with at most one line. */

static void
test_garbage(void **state)
{
    size_t  i, len;

    const char  *const texts[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "K", "KVN\2", "KVN\1", "\n",
        "\x16\x03\x01", "SSH-2.0-x\r\n"
    };

    (void) state;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        attack("127.0.42.102", texts[i], strlen(texts[i]));
    }

    /* a hello with one bit wrong, in each of its bytes */

    for (i = 0; i < 40; i++) {
        len = net_rig_hello(buf, net_rig[1].address, "I am 1");
        assert_true(len > 40);
        buf[i] ^= (unsigned char) (1u << i % 8);
        attack("127.0.42.102", buf, len);
        net_rig_step();
    }

    assert_true(net_rig_until(all_closed));
    assert_int_equal(net_rig[0].hellos[1], hellos);
    check_lines();
    assert_int_equal(kv_net_refused(net_rig[0].net), n_socks);
    check_sound();
}


/* From an IP that no node has it does not matter what is sent. */

static void
test_strangers(void **state)
{
    size_t    len;
    unsigned  i;

    (void) state;

    for (i = 0; i < 40; i++) {
        len = net_rig_hello(buf, net_rig[1].address, "I am 1");
        attack(i % 2 ? "127.0.0.1" : "127.0.42.101", buf, i % 3 ? len : 0);
    }

    assert_true(net_rig_until(all_closed));
    assert_int_equal(kv_net_refused(net_rig[0].net), 40);
    assert_int_equal(net_rig[0].hellos[1], hellos);
    check_lines();
    assert_non_null(strstr(net_rig[0].log, "a connection from 127.0."));
    check_sound();
}


/* Nor does a right name from the IP of another node, or a name of none. */

static void
test_names(void **state)
{
    unsigned  i;

    const char  *const names[] = {
        "\n[alert] all is lost",              /* first: others get no line */
        net_rig[1].address,                   /* from the IP of node 2 */
        net_rig[0].address,                   /* the one that it talks to */
        "127.0.42.103:8081", "127.0.42.103", "x", ""
    };

    (void) state;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        attack("127.0.42.103", buf, net_rig_hello(buf, names[i], "I am 1"));
    }

    assert_true(net_rig_until(all_closed));
    assert_int_equal(net_rig[0].hellos[1], hellos);
    check_lines();
    assert_null(strstr(net_rig[0].log, "\n[alert]"));
    check_sound();
}


/*
 * More than it holds at once, who are silent or say half of it, do not keep out
 * a node that starts meanwhile; and they go after a second.
 */

static void
test_silent(void **state)
{
    size_t    len;
    unsigned  i, before;

    (void) state;

    before = descriptors();
    net_rig_stop(1);

    for (i = 0; i < 50; i++) {
        len = net_rig_hello(buf, net_rig[1].address, "I am 1");
        attack("127.0.42.102", buf, i % len);
        net_rig_step();
    }

    net_rig_start(1);
    assert_true(net_rig_until(net_rig_all_up));
    assert_true(net_rig_until(all_closed));
    assert_true(kv_net_refused(net_rig[0].net) >= n_socks);
    assert_int_equal(descriptors(), before + n_socks);
}


/* Bytes that are allocated, as AddressSanitizer counts them; or 0. */

size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t
allocated(void)
{
    return __sanitizer_get_current_allocated_bytes
           ? __sanitizer_get_current_allocated_bytes() : 0;
}


static bool
has_turned(void)
{
    return net_rig[0].hellos[1] > hellos;
}


/* A length has no memory before the bytes have come. */

static void
test_huge(void **state)
{
    size_t    len, was;
    unsigned  i;

    (void) state;

    /* longer than any may be, and than one may be before a hello */

    for (i = 0; i < 4; i++) {
        net_rig_head(buf, i % 2, i / 2 ? 100000 : (size_t) 1 << 31, 0);
        attack("127.0.42.102", buf, 20);
    }

    assert_true(net_rig_until(all_closed));
    check_sound();

    /* as long as may be, after a right hello */

    net_rig_stop(1);
    hellos = net_rig[0].hellos[1];
    was = allocated();
    len = net_rig_hello(buf, net_rig[1].address, "I am 1");
    net_rig_head(buf + len, 1, NET_RIG_FRAME, 0);
    attack("127.0.42.102", buf, len + 21);

    assert_true(net_rig_until(has_turned));
    net_rig_run(20);
    assert_true(allocated() <= was + 100000);

    /* one more than that */

    len = net_rig_hello(buf, net_rig[1].address, "I am 1");
    net_rig_head(buf + len, 1, NET_RIG_FRAME + 1, 0);
    attack("127.0.42.102", buf, len + 20);
    assert_true(net_rig_until(all_closed));
}


static bool
is_heard(void)
{
    kv_net_peer_info_t  info;

    kv_net_peer_info(net_rig[0].net, 0, &info);

    return info.heard;
}


static bool
has_gone(void)
{
    ssize_t  n;

    do {
        n = recv(socks[n_socks - 1], buf, sizeof(buf), MSG_DONTWAIT);
    } while (n > 0);

    return n == 0 || errno == ECONNRESET;
}


/*
 * Who has said a right hello, from the right IP, and then goes wrong, loses the
 * connection, not the place among the peers for good.
 */

static void
test_turncoat(void **state)
{
    size_t    len, more;
    unsigned  i;

    (void) state;

    net_rig_stop(1);

    for (i = 0; i < 7; i++) {
        len = net_rig_hello(buf, net_rig[1].address, "I am 1");
        more = 0;

        switch (i) {

        case 0:                              /* a frame that is damaged */
            more = net_rig_frame(buf + len, 3, "12345678", 8);
            buf[len + 25] ^= 1;
            break;

        case 1:                              /* another name */
            more = net_rig_hello(buf + len, net_rig[2].address, "I am 2");
            break;

        case 2:                              /* what the caller finds odd */
            more = net_rig_frame(buf + len, 3, "12345678", 8);
            net_rig[0].odd = true;
            break;

        case 3:                              /* half a frame, and the end */
            more = net_rig_frame(buf + len, 3, "12345678", 8) - 1;
            break;

        case 4:                              /* another protocol */
            memcpy(buf + len, "GET", 3);
            more = 3;
            break;

        case 5:                              /* a frame with type 0 */
            more = net_rig_frame(buf + len, 0, "\0\0", 2);
            break;

        case 6:                              /* a frame, and no hello */
            len = net_rig_frame(buf, 3, "12345678", 8);
            break;
        }

        attack("127.0.42.102", buf, len + more);

        if (i == 3) {
            assert_int_equal(shutdown(socks[n_socks - 1], SHUT_WR), 0);
        }

        assert_true(net_rig_until(has_gone));
    }

    assert_false(is_heard());
    assert_int_equal(net_rig[0].frames[1], 0);

    net_rig_start(1);
    assert_true(net_rig_until(net_rig_all_up));
}


static bool
is_deaf(void)
{
    return strstr(net_rig[0].log, "connections of other nodes wait") != NULL;
}


/* Without descriptors it takes no connections, for a while. */

static void
test_descriptors(void **state)
{
    unsigned        i;
    struct rlimit   was, few;

    (void) state;

    net_rig_stop(1);

    for (i = 0; i < 3; i++) {
        attack("127.0.42.102", "", 0);
    }

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    few = was;
    few.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_true(net_rig_until(is_deaf));
    net_rig_run(150);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);

    net_rig_start(1);
    assert_true(net_rig_until(net_rig_all_up));
    assert_true(net_rig_until(all_closed));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_garbage, start, finish),
        cmocka_unit_test_setup_teardown(test_strangers, start, finish),
        cmocka_unit_test_setup_teardown(test_names, start, finish),
        cmocka_unit_test_setup_teardown(test_silent, start, finish),
        cmocka_unit_test_setup_teardown(test_huge, start, finish),
        cmocka_unit_test_setup_teardown(test_turncoat, start, finish),
        cmocka_unit_test_setup_teardown(test_descriptors, start, finish)
    };

    (void) signal(SIGPIPE, SIG_IGN);

    return cmocka_run_group_tests_name("net_hostile", tests, NULL, NULL);
}
