
/*
 * What the tests of death share: several workers, which are processes, share
 * a zone and a directory, and one is killed or leaves.
 */


#ifndef DEATH_RIG_H
#define DEATH_RIG_H


#include <sys/types.h>

#include "kit.h"
#include "base/kv_failpoint.h"


#define WORKERS     3
#define KEYS        60u            /* each worker's */
#define CONTESTED   4u             /* keys that all of them write */
#define DEEDS       (1u << 16)     /* operations on those, at most */
#define COUNTER     "counter"      /* a key that all of them increment */
#define GROUPED     4u             /* keys of each that it puts together, */
#define GROUP_ID    200u           /* the first of them, behind worker * 1000 */
#define FLIGHT      8u             /* operations at a time */
#define ZONE        ((size_t) 16 << 20)
#define PLACES      8
#define PATIENCE    30000          /* ms until something is called a hang */

/* ms until the others must have gone on, with syncs of a disk that is busy */
#define SOON        4000


/*
 * What each key's owner did: all versions up to `issued` were submitted, up
 * to `acked` they were acknowledged.  A version's content follows from it.
 */

typedef struct {
    _Atomic uint32_t  issued;
    _Atomic uint32_t  acked;
} ledger_t;


/* Where a sum that was acknowledged is noted: each is there once. */
#define SUMS        (1u << 20)


typedef struct {
    _Atomic uint64_t  acks;
    _Atomic uint64_t  unavailable;
    _Atomic uint32_t  resets;
    _Atomic uint32_t  errors;
    _Atomic uint32_t  last_error;
    char              text[256];
    ledger_t          key[KEYS];
    ledger_t          counter;     /* increments of the common counter */
    ledger_t          group;       /* puts of all keys of the group */
} worker_t;


/* An operation on a contested key: see death_contest.c. */

typedef enum {
    DEED_NONE = 0,
    DEED_TRIED,                    /* it may have happened, or not */
    DEED_DONE,
    DEED_REFUSED                   /* its condition was false */
} deed_state_t;


typedef struct {
    _Atomic uint32_t  state;
    uint8_t           key;
    uint8_t           code;
    uint8_t           flag;        /* its condition, */
    uint64_t          read;        /* the LSN that was read for it, or 0, */
    uint32_t          read_version;    /* and which put that is of */
    uint64_t          lsn;         /* its own; REFUSED: what was there, or 0 */
} deed_t;


typedef struct {
    _Atomic int       stop;
    _Atomic int       background;  /* victim + 1: only it does that work */
    _Atomic int       rest;        /* the others begin nothing new */
    worker_t          worker[WORKERS];
    _Atomic uint8_t   summed[SUMS];    /* by the common counter's values */
    _Atomic uint32_t  deeds;       /* begun; more than there are at times */
    deed_t            deed[DEEDS];
} shared_t;


typedef enum {
    DIE_FAILPOINT = 0,
    DIE_CALL,                      /* at a call to the disk */
    DIE_HEAP,
    DIE_BUILDING,
    DIE_PINNED,
    DIE_EPOCH,
    DIE_LEAVE                      /* gives its place back in full flight */
} death_t;


/* When and how a worker dies. */

typedef struct {
    death_t      how;
    const char  *failpoint;
    int          call;             /* call_t */
    bool         late;             /* when the call has been made */
    int          after;
} order_t;


/* Calls to the disk; those that write and sync a batch have failpoints. */

typedef enum {
    CALL_OPEN = 0,                 /* that makes a file */
    CALL_FALLOCATE,
    CALL_FSYNC,
    CALL_RENAME,
    CALL_UNLINK,
    CALLS
} call_t;


extern kit_t      death_kit;
extern shared_t  *death_shared;    /* with the workers */
extern uint64_t   death_seed;

/* For the sum of it. */
extern bool       death_reached[KV_FAILPOINTS];
extern uint64_t   death_slowest;   /* ms until all others had gone on */
extern uint64_t   death_most_acks; /* of a victim, at its failpoint */
extern uint64_t   death_met;       /* conditions that were true, */
extern uint64_t   death_unmet;     /* and false */


/* cmocka's: a directory and a zone; teardown ends processes that are left. */
int death_setup(void **state);
int death_teardown(void **state);

/* Less than n. */
uint32_t death_rnd(uint32_t n);

/* The kit, over a disk at whose calls a worker may die. */
void death_open_kit(void);

/* An empty directory instead of the one that there is. */
void death_clean_directory(void);


/* ---- a worker: death_worker.c */


/* A version that deletes; 0, before the first, is one. */
bool death_deletes(uint32_t id, uint32_t version);

/* A worker of this number, which dies by `order` if that is not NULL. */
pid_t death_spawn(unsigned number, const order_t *order);

/* Points on the way out. */
bool death_leaves(const order_t *order);


/* ---- contested keys: death_contest.c */


/*
 * Prepares an operation on one of them, with a condition, for submission.  NULL
 * if there is none to be had.
 */
deed_t *death_contest(host_t *host, kv_op_t **op);

/* Notes the result of one that is done.  NULL, or what is wrong with it. */
const char *death_contested(host_t *host, deed_t *deed, const kv_op_t *op,
    kv_rc_t rc);

/* Compares what all workers noted with each other, and with what is there. */
void death_contest_verify(host_t *host, const char *when);


/* ---- their parent: death_rig.c */


/* A process of ours, which is ended if the test fails.  0 in the child. */
pid_t death_child(void);

/* Waits for its end: the status, or -1 if it has not ended after `ms`. */
int death_wait_for(pid_t pid, int ms);

/* Whether the status says that it was killed by SIGKILL. */
bool death_killed(int status);


/*
 * Milliseconds since the first call, without those for which the machine, or
 * its disk, stood still.  Only our parent may ask.
 */
uint64_t death_ran_ms(void);

/* Notes that a worker died at this failpoint. */
void death_mark(const char *name);

/* Whether it is a failpoint of the background task. */
bool death_in_background(const order_t *order);

/*
 * The store starts, worker 0 dies as it is told, the others must go on within
 * a second, another takes its place, and all that was acknowledged is there.
 */
void death_one_death(const order_t *order, const char *when);

/* Runs `f` in a process that has entered the store, and is killed after. */
void death_child_dies(void (*f)(host_t *host));

/*
 * All workers run for `ms`, and until `least` have died, or for long: by what
 * `order` says, one for each of them, and if `every` is not 0 by kills from
 * outside, at most `every` ms apart.  The dead are replaced, and all that was
 * acknowledged is there.  Returns how many died.
 */
unsigned death_chaos(const order_t *order, int ms, int every, unsigned least,
    const char *when);

/* Done in time?  A thread that hangs would keep the test from its end. */
void death_finish_within(host_t *host, kv_op_t **op, unsigned n,
    const char *what);


#endif /* DEATH_RIG_H */
