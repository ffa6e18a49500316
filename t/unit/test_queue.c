
/*
 * The queue's two ends: what a worker pushes, what the committer takes, and
 * what the worker gets back are looked at each time.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"
#include "store/kv_queue.h"


enum {
    PUSH_AGAIN = 0,
    PUSH_CODE,
    PUSH_WORKER,
    PUSH_NO_ENTRY,
    PUSH_ENTRY,
    TAKE_STATE,
    TAKE_CODE,
    TAKE_WORKER,
    TAKE_NO_ENTRY,
    RELEASE_QUEUED,
    RELEASE_TAKEN,
    RELEASE_AGAIN,
    RELEASE_OTHERS,
    RECORD_IN_USE,
    RECORD_OTHERS,
    MISTAKES
};


static kit_t  kit;


static void
spoil(int what, kv_op_t *op)
{
    switch (what) {

    case PUSH_CODE:
    case TAKE_CODE:
        op->code = 77;
        break;

    case PUSH_WORKER:
    case TAKE_WORKER:
        op->worker = (uint16_t) kit.workers;
        break;

    case PUSH_NO_ENTRY:
    case TAKE_NO_ENTRY:
        kv_op_set_entry(op, NULL);
        break;

    case PUSH_ENTRY:
        op->code = KV_OP_CLEAR;
        break;

    case TAKE_STATE:
        atomic_store(&op->state, KV_OP_DONE);
        break;
    }
}


static void
mistake(int what)
{
    kv_op_t    *op;
    kv_zone_t  *zone;

    (void) dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    (void) setrlimit(RLIMIT_CORE, &(struct rlimit) { 0, 0 });
    (void) signal(SIGABRT, SIG_DFL);

    zone = kit.store->zone;

    if (kv_store_put(kit.store, "key", 3, 0, 0, &op) != KV_OK) {
        _exit(1);
    }

    if (what < TAKE_STATE) {
        spoil(what, op);
        kv_queue_push(zone, op);

        if (what == PUSH_AGAIN) {
            kv_queue_push(zone, op);
        }

    } else if (what < RELEASE_QUEUED) {
        kv_queue_push(zone, op);
        spoil(what, op);
        (void) kv_queue_take(zone);

    } else if (what < RELEASE_AGAIN) {
        kv_queue_push(zone, op);

        if (what == RELEASE_TAKEN) {
            (void) kv_queue_take(zone);
        }

        kv_store_release(kit.store, op);

    } else {
        op->worker += what == RELEASE_OTHERS;
        kv_store_release(kit.store, op);

        if (what == RELEASE_AGAIN) {
            kv_store_release(kit.store, op);
        }

        op->worker += what == RECORD_OTHERS;
        atomic_store(&op->state, what == RECORD_IN_USE ? KV_OP_TAKEN
                                                       : KV_OP_FREE);
        (void) kv_store_put(kit.store, "key", 3, 0, 0, &op);
    }

    _exit(0);
}


static void
test_mistakes(void **state)
{
    int    what, status;
    pid_t  pid;

    (void) state;

    for (what = 0; what < MISTAKES; what++) {
        kit_open(&kit, (size_t) 16 << 20, 2);
        assert_int_equal(kit_start(&kit), KV_OK);
        assert_int_equal(kv_store_enter(kit.store), KV_OK);

        pid = fork();

        if (pid == 0) {
            mistake(what);
        }

        assert_int_equal(waitpid(pid, &status, 0), pid);

        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
            fail_msg("mistake %d went unnoticed", what);
        }

        kit_stop(&kit);
        kit_close(&kit);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_mistakes)
    };

    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
