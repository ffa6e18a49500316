
/*
 * What the store core can do by itself, without nginx.
 *
 *     core help                      says what there is, with all defaults
 *     core lookups keys=10000 rounds=3 take=best
 *
 * Every command prints lines of a name and a value, and nothing else.  A
 * figure that is measured in several rounds is their median, or with
 * take=best the highest; what is compared takes turns.
 *
 * What is not about the disk does without one: there, writes to files count
 * but go nowhere, and keys that only have to be there are put into the map as
 * recovery puts them.
 */


#include "core/core.h"


typedef struct {
    const char         *name;
    const char         *options;      /* those it takes, with defaults */
    void              (*run)(void);
    const char         *help;
} command_t;


static const command_t  commands[] = {

    { "lookups",
      "keys=10000,100000,1000000,10000000 value=16 rounds=5 ms=200 rate=10000"
      " take=median dir=/dev/shm",
      run_lookups,
      "lookups of random keys of 16 bytes by one and by two threads, alone\n"
      "    and beside a writer that overwrites keys at a rate, for each number"
      " of keys;\n"
      "    per second of the clock and of processor time; and what two random\n"
      "    reads of the zone's memory take, of which one waits for the other" },

    { "puts",
      "keys=100000,1000000,10000000 value=100 flight=64 feed=0 cluster=0"
      " rounds=3 ms=200 take=median dir=/dev/shm",
      run_puts,
      "what a put of a random key takes of the processor, committed by the"
      " thread\n"
      "    that puts, with `flight` in a batch, and a change feed of so many"
      " bytes; and\n"
      "    bytes of zone a key, for each number of keys; cluster=1: of a node"
      " alone" },

    { "commits",
      "producers=1,2,4,8 flight=1,64,256 keys=100000 value=100 cluster=0"
      " rounds=3 ms=500 sync=always take=median dir=/dev/shm",
      run_commits,
      "puts a second by some threads, each with some in flight, and how\n"
      "    many a batch has" },

    { "recovery",
      "keys=1000000 key=16 value=100 keep=none dir=/dev/shm",
      run_recovery,
      "seconds to start from the log, to write a snapshot, to start from it;\n"
      "    keep=snapshot or keep=log leaves that in the directory itself,"
      " which must be empty" },

    { "bytes",
      "key=8,16,64,250 value=10,100,1000,10000 keys=1000000 memory=1g"
      " dir=/dev/shm",
      run_bytes,
      "bytes of zone a key, in pages taken and in objects, for each size of\n"
      "    key and value; fewer keys where they would take more than the"
      " memory" },

    { "rewrites",
      "zone=32m,64m,256m max=1k,30k,1m mix=log,even,band full=75 count=used"
      " rounds=10 seed=1 dir=/dev/shm",
      run_rewrites,
      "everything rewritten with other sizes, in zones that are partly full,"
      " counted\n"
      "    in memory used or (count=payload) in bytes of keys and values:"
      " puts, requests\n"
      "    for memory, puts that were refused, and both counts at the end" },

    { "log",
      "value=1024 flight=64 puts=100000 keys=10000 cluster=0 dir=/dev/shm",
      run_log,
      "bytes written to the log for each byte of keys and values" },

    { "clears",
      "keys=1000000,9000000 rounds=3 ms=1000 take=median dir=/dev/shm",
      run_clears,
      "the longest that a put took, one after the other: alone, and while so"
      " many keys\n"
      "    are cleared; and milliseconds until their memory is free" },

    { "lists",
      "keys=100000,1000000,10000000 letters=numbered,random value=100 flight=64"
      " rounds=7 new=100000 take=median dir=/dev/shm",
      run_lists,
      "what list=on costs beside list=off: nanoseconds of the processor for a\n"
      "    put that overwrites and for one of a new key, committed by the"
      " thread that\n"
      "    puts, and bytes of zone a key; and microseconds for 1,000 keys in"
      " order. Keys\n"
      "    are numbers, of which most letters are alike, or random letters" },

    { "expiry",
      "keys=1000000 rounds=3 in=20000 ms=3000 sync=off take=median"
      " dir=/dev/shm",
      run_expiry,
      "the longest that a put took, one after the other: alone, for `ms`;"
      " beside a\n"
      "    thread that only uses a processor; until `in` ms are over; and"
      " while so many\n"
      "    keys expire within one second then. The same without what its"
      " threads waited\n"
      "    for a processor (ready), and the most of processor time that they"
      " used for one\n"
      "    (work). And milliseconds behind that second until the keys are"
      " deleted" },
};

#define BENCH_COMMANDS  (sizeof(commands) / sizeof(commands[0]))


static void
run_help(void)
{
    unsigned  i;

    printf("usage: core COMMAND [OPTION=VALUE]...\n");

    for (i = 0; i < BENCH_COMMANDS; i++) {
        printf("\ncore %s %s\n    %s\n", commands[i].name,
               commands[i].options, commands[i].help);
    }
}


int
main(int argc, char *argv[])
{
    int          k;
    size_t       len;
    unsigned     i;
    const char  *p;

    if (argc < 2 || strcmp(argv[1], "help") == 0) {
        run_help();
        return argc < 2 ? 2 : 0;
    }

    for (i = 0; i < BENCH_COMMANDS; i++) {
        if (strcmp(commands[i].name, argv[1]) == 0) {
            break;
        }
    }

    if (i == BENCH_COMMANDS) {
        fail(argv[1], "no such command: see \"core help\"");
    }

    for (p = commands[i].options; *p; p += len + (p[len] == ' ')) {
        len = strcspn(p, " ");
        option_set(p, len, false);
    }

    for (k = 2; k < argc; k++) {
        option_set(argv[k], strlen(argv[k]), true);
    }

    kv_io_system(&io);
    null_io = io;
    io.pwritev = count_pwritev;
    null_io.pwritev = null_pwritev;
    null_io.fallocate = null_fallocate;

    commands[i].run();

    return 0;
}
