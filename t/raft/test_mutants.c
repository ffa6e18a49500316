
/*
 * Whether the invariants would notice.  Each fault of the code is made on
 * purpose: by the world's own nodes and disks (sim_fault_t), or by a function
 * of src/raft that the linker replaces.  Random worlds must come upon it.
 *
 * An assertion that is false notices, too, the engine's or ours; so each world
 * is a process of its own.
 *
 *     KIT_SUM=1      how each was noticed
 */


#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim.h"
#include "raft/kv_raft_private.h"


#define WORLDS  600u                 /* that may pass before it is noticed */
#define STEPS   4000u


enum {
    SOUND,
    NO_PIECES,                       /* a change may be anywhere */
    NOT_ALONE,                       /* who is alone leads in the term it has */
    TERM_UNTOLD,                     /* a pre-vote's answer repeats the term */
    NO_STAMP,                        /* any echo confirms a read */
    CHANGE_FORGOTTEN                 /* a change is forgotten for another */
};


typedef struct {
    const char  *name;
    sim_fault_t  fault;
    int          replaced;
    unsigned     nodes;
    unsigned     first;              /* world to try, where it was seen */
} mutant_t;


static int  replaced;


unsigned __real_kv_raft_message_piece(const kv_raft_message_t *m,
    unsigned first);
unsigned __wrap_kv_raft_message_piece(const kv_raft_message_t *m,
    unsigned first);
bool __real_kv_raft_is_alone(const struct raft_configuration *conf,
    uint64_t id);
bool __wrap_kv_raft_is_alone(const struct raft_configuration *conf,
    uint64_t id);
void __real_kv_raft_message_tell_term(kv_raft_message_t *m, uint64_t term);
void __wrap_kv_raft_message_tell_term(kv_raft_message_t *m, uint64_t term);
void __real_kv_raft_change_follows(kv_raft_t *r, uint64_t last);
void __wrap_kv_raft_change_follows(kv_raft_t *r, uint64_t last);
kv_rc_t __real_kv_raft_read_begin(kv_raft_t *r, kv_raft_read_t *read);
kv_rc_t __wrap_kv_raft_read_begin(kv_raft_t *r, kv_raft_read_t *read);


unsigned
__wrap_kv_raft_message_piece(const kv_raft_message_t *m, unsigned first)
{
    return replaced == NO_PIECES
           ? m->m.append_entries.n_entries - first
           : __real_kv_raft_message_piece(m, first);
}


bool
__wrap_kv_raft_is_alone(const struct raft_configuration *conf, uint64_t id)
{
    return replaced != NOT_ALONE && __real_kv_raft_is_alone(conf, id);
}


void
__wrap_kv_raft_message_tell_term(kv_raft_message_t *m, uint64_t term)
{
    if (replaced != TERM_UNTOLD) {
        __real_kv_raft_message_tell_term(m, term);
    }
}


void
__wrap_kv_raft_change_follows(kv_raft_t *r, uint64_t last)
{
    if (replaced != CHANGE_FORGOTTEN) {
        __real_kv_raft_change_follows(r, last);
    }
}


kv_rc_t
__wrap_kv_raft_read_begin(kv_raft_t *r, kv_raft_read_t *read)
{
    kv_rc_t  rc;

    rc = __real_kv_raft_read_begin(r, read);

    if (replaced == NO_STAMP) {
        read->stamp = 0;
    }

    return rc;
}


static const mutant_t  mutants[] = {
    { "the vote is not written", SIM_VOTE_NOT_WRITTEN, SOUND, 3, 26 },
    { "messages do not wait for the vote", SIM_VOTE_NOT_AWAITED, SOUND, 3, 83 },
    { "entries are reported before the sync", SIM_WRITTEN_EARLY, SOUND, 3, 1 },
    { "a truncation is forgotten", SIM_TRUNCATION_FORGOTTEN, SOUND, 5, 15 },
    { "a torn tail counts", SIM_TORN_TAIL_COUNTS, SOUND, 3, 4 },
    { "all that is found is committed", SIM_COMMIT_TOO_FAR, SOUND, 3, 2 },
    { "a fuzzy snapshot is served at once", SIM_FUZZY_SERVED, SOUND, 3, 2 },
    { "reads ask nobody", SIM_STALE_READ, SOUND, 5, 1 },
    { "any echo confirms a read", SIM_SOUND, NO_STAMP, 5, 539 },
    { "a change is anywhere in a message", SIM_SOUND, NO_PIECES, 0, 214 },
    { "a change is forgotten for another", SIM_SOUND, CHANGE_FORGOTTEN, 2, 5 },
    { "who is alone leads in the term it has", SIM_SOUND, NOT_ALONE, 1, 1 },
    { "a pre-vote's answer repeats the term", SIM_SOUND, TERM_UNTOLD, 2, 3153 },
};


/* 0: nothing was noticed. */

static int
live(const mutant_t *mutant, uint64_t seed, char *message)
{
    int            fds[2], status;
    pid_t          pid;
    sim_t          sim;
    ssize_t        n;
    sim_conf_t     conf;
    struct rlimit  none = { 0, 0 };

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &none);
        close(fds[0]);
        dup2(fds[1], STDERR_FILENO);

        memset(&conf, 0, sizeof(conf));
        conf.seed = seed;
        conf.steps = STEPS;
        conf.nodes = mutant->nodes;
        conf.trouble = ~SIM_PUT_OFF;
        conf.fault = mutant->fault;
        replaced = mutant->replaced;

        if (sim_run(&sim, &conf)) {
            _exit(0);
        }

        dprintf(fds[1], "%s\n", sim.message);
        _exit(1);
    }

    close(fds[1]);
    n = read(fds[0], message, SIM_MESSAGE - 1);
    message[n > 0 ? n : 0] = '\0';
    message[strcspn(message, "\n")] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);

    return status;
}


static void
test_mutants(void **state)
{
    char      message[SIM_MESSAGE];
    unsigned  i, missed;
    uint64_t  seed;

    (void) state;
    missed = 0;

    for (i = 0; i < sizeof(mutants) / sizeof(mutants[0]); i++) {
        for (seed = mutants[i].first; seed < mutants[i].first + WORLDS;
             seed++)
        {
            if (live(&mutants[i], seed, message)) {
                break;
            }
        }

        if (seed == mutants[i].first + WORLDS) {
            fprintf(stderr, "%s: not noticed in %u worlds\n", mutants[i].name,
                    WORLDS);
            missed++;

        } else if (getenv("KIT_SUM")) {
            printf("%s: world %llu: %s\n", mutants[i].name,
                   (unsigned long long) seed, message);
        }
    }

    assert_int_equal(missed, 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_mutants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
