
/*
 * Random worlds (sim.h), one after the other, until they have had a million
 * steps together.
 *
 *     KIT_SEED=n     the world of that seed alone
 *     KIT_LOG=1      what happens in it
 *     KIT_STEPS=n    as many steps, instead of the suite's
 *     KIT_FIRST=n    from this seed on
 *     KIT_SUM=1      what there was in all worlds
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <unistd.h>

#include "sim.h"


#define STEPS        1000000u
#define WORLD_STEPS  10000u          /* of a world */


static uint64_t number(const char *name, uint64_t otherwise);
static void on_abort(int signo);
static void live(uint64_t seed, uint64_t *steps, sim_t *sums);


static char  seed_text[64];


static uint64_t
number(const char *name, uint64_t otherwise)
{
    const char  *value;

    value = getenv(name);

    return value ? strtoull(value, NULL, 10) : otherwise;
}


/* An assertion is false, the engine's or ours: which world it was in. */

static void
on_abort(int signo)
{
    (void) signo;

    if (write(STDERR_FILENO, seed_text, strlen(seed_text)) < 0) {
        _exit(2);
    }

    signal(SIGABRT, SIG_DFL);
}


static void
live(uint64_t seed, uint64_t *steps, sim_t *sums)
{
    bool         ok;
    sim_t        sim;
    unsigned     i;
    sim_conf_t   conf;
    uint64_t    *sum, *one;

    memset(&conf, 0, sizeof(conf));
    conf.seed = seed;
    conf.steps = WORLD_STEPS;
    conf.log = getenv("KIT_LOG") != NULL;

    /* Half of the worlds have all troubles, the others some. */
    conf.trouble = seed % 2 ? ~0u : (unsigned) sim_mix(seed) & 0x7f;
    conf.pieces = seed % 4 < 2;

    snprintf(seed_text, sizeof(seed_text), "seed: KIT_SEED=%llu\n",
             (unsigned long long) seed);

    ok = sim_run(&sim, &conf);

    if (!ok) {
        fprintf(stderr, "%sstep %llu: %s\n", seed_text,
                (unsigned long long) sim.steps, sim.message);
    }

    *steps += sim.steps;
    sum = (uint64_t *) &sums->sum;
    one = (uint64_t *) &sim.sum;

    for (i = 0; i < sizeof(sim.sum) / sizeof(uint64_t); i++) {
        sum[i] += one[i];
    }

    sim_free(&sim);
    assert_true(ok);
}


static void
test_worlds(void **state)
{
    sim_t     sums;
    uint64_t  seed, steps, end;

    (void) state;

    memset(&sums, 0, sizeof(sums));
    signal(SIGABRT, on_abort);
    steps = 0;

    if (getenv("KIT_SEED")) {
        live(number("KIT_SEED", 0), &steps, &sums);
        return;
    }

    end = number("KIT_STEPS", STEPS);

    /* The suite's worlds are the same each time; scripts/soak.sh has others. */
    for (seed = number("KIT_FIRST", 1); steps < end; seed++) {
        live(seed, &steps, &sums);
    }

    if (getenv("KIT_SUM")) {
        printf("%llu steps: messages %llu, lost %llu; leaders %llu; crashes"
               " %llu, torn %llu; cuts %llu; writes %llu, reads %llu;"
               " snapshots %llu, installed %llu; changes %llu\n",
               (unsigned long long) steps,
               (unsigned long long) sums.sum.messages,
               (unsigned long long) sums.sum.lost,
               (unsigned long long) sums.sum.leaders,
               (unsigned long long) sums.sum.crashes,
               (unsigned long long) sums.sum.torn,
               (unsigned long long) sums.sum.cuts,
               (unsigned long long) sums.sum.writes,
               (unsigned long long) sums.sum.reads,
               (unsigned long long) sums.sum.taken,
               (unsigned long long) sums.sum.installed,
               (unsigned long long) sums.sum.changes);
    }

    /* They had all that they are for. */
    assert_true(end < STEPS || (sums.sum.torn && sums.sum.installed
                                && sums.sum.changes && sums.sum.reads));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_worlds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
