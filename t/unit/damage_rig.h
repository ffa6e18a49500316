
/*
 * What the tests of damage share: a small data directory, one recovery of the
 * whole store from what is left of it, and the rules for what may come of it.
 *
 * The directory was written by the store itself, with every way to end a
 * segment and two snapshots in it.  LSN n is its last; S(k) is the state after
 * the first k operations; W is the highest LSN that anything undamaged in the
 * files that are there says was durable (batches and marks by their headers,
 * snapshots by their E; damaged ones, too, by the S in their names).  Whatever
 * was done to the files, either
 *
 *   - the store starts, with exactly S(k) where W <= k <= n: all that can be
 *     known to have been acknowledged, and nothing that never was; then it
 *     takes writes, and a restart gives S(k) and these; or
 *   - it refuses: KV_DAMAGED, nothing in the directory has been changed, and
 *     the text names a file, the offset, a way out, and what that gives up;
 *     and an operator who takes that way gets S(k) of the k that it names, and
 *     never one that gives up more than the text said.
 *
 * Each recovery is bounded: what it reads and allocates is compared with the
 * size of the directory, and its processor time is measured.
 */


#ifndef DAMAGE_RIG_H
#define DAMAGE_RIG_H


#include "solo.h"


#define IDS          12u             /* keys */
#define OPS          64u             /* at most */
#define FILES        8u              /* in the directory */
#define BATCHES      64u             /* and marks, in all of them */
#define ANYWHERE     UINT64_MAX      /* an offset that is not known */
#define TAIL         96u             /* unused bytes of the last segment */

/* by name */
#define LAST_LOG      2u
#define OLD_SNAPSHOT  3u
#define NEW_SNAPSHOT  4u


typedef struct {
    kv_op_code_t  code;
    uint32_t      id;
    uint32_t      len;
} step_t;


/* Of S(k): version and length of each key; version 0: not there. */

typedef struct {
    uint32_t  version[IDS];
    uint32_t  len[IDS];
} state_t;


typedef struct {
    char      name[KV_NAME_MAX];
    uint8_t  *data;
    size_t    size;
    bool      log;
    bool      snapshot;
    bool      needed;                /* recovery reads it, undamaged */
    uint64_t  lsn;                   /* of the name */
    uint64_t  end_lsn;               /* of a snapshot: E */
} file_t;


/* Where a batch or a mark lies, and what its header says. */

typedef struct {
    unsigned  file;
    size_t    offset;
    size_t    len;
    uint64_t  first;
    uint32_t  count;
    uint64_t  durable;
    bool      entry;                 /* of a replicated log */
} place_t;


/* A directory as it is; `file` also what is in it after some damage. */

typedef struct {
    const char  *name;
    file_t       file[FILES];
    unsigned     nfiles;
    place_t      place[BATCHES];
    unsigned     nplaces;
    uint64_t     n;                  /* the last LSN */
    uint64_t     w;                  /* W of what is undamaged */
    size_t       synced;             /* what is before that in the last segment
                                        of a replicated log was durable */
    bool         marked;             /* there is a mark at the end */
    size_t       bytes;              /* of all files */
} dir_t;


typedef enum {
    ANY = 0,                         /* what the rules say: see above */
    WHOLE,                           /* S(n) */
    REFUSED,                         /* and the text names file and offset */
    PREFIX                           /* S(k), k just before the batch */
} outcome_t;


/* How the last segment came to its end. */

typedef enum {
    STOPPED = 0,                     /* with a mark */
    CLOSED,                          /* and with a note of its end */
    KILLED,                          /* without one */
    IN_FLIGHT                        /* nor had anything been synced */
} end_t;


/* What came of all damages since the last damage_sum_up(). */

typedef struct {
    uint64_t  tried;
    uint64_t  whole;                 /* S(n) */
    uint64_t  prefix;
    uint64_t  refused;
    uint64_t  ways;                  /* ways out taken */
    uint64_t  written;               /* gone on with */
    size_t    memory;                /* the most that one took */
    uint64_t  ns;
} sum_t;


extern step_t    step[OPS + 1];      /* of each LSN */
extern state_t   model[OPS + 1];     /* S(k) */
extern unsigned  steps;
extern dir_t     before;             /* undamaged */
extern dir_t     dir;
extern char      what[256];          /* is being done to it */
extern sum_t     sum;
extern uint64_t  damage_seed;


/* ---- the directory: damage_dir.c */


/* Less than n; damage_make() starts the numbers again. */
uint32_t damage_rnd(uint32_t n);

/*
 * Makes `before`: two snapshots, three segments, one of before the older
 * snapshot; no start needs them while the newer one is good.  `dir` is the
 * same, with the same bytes.  The store is stopped.
 */
void damage_make(end_t end);

/* Gives `dir` its own bytes, and 8192 more of buffer for each file. */
void damage_unshare(void);

/* `dir`, after damage_unshare(), is again what `before` is. */
void damage_reset(void);

/* Frees the bytes of `dir`, and the store. */
void damage_drop(void);

/* Starts the store, which must succeed. */
void damage_start(void);

/* Makes a snapshot, if that can be made. */
void damage_snapshot(void);

/* Begins an operation on the store: returns what that returns. */
kv_rc_t damage_begin(const step_t *s, uint32_t version, kv_op_t **op);

/* What it does to the model. */
void damage_apply(state_t *s, const step_t *st, uint32_t version);


/* ---- one recovery: damage_rig.c */


/* cmocka's, of a group: hooks, signals, KIT_SEED. */
int damage_setup(void **state);

/* Puts the files of `dir` where the store looks for them. */
void damage_load(void);

/* The store, which was started, must hold this. */
void damage_check_state(const state_t *s, uint64_t k);

/*
 * Recovers `dir`.  `name` and `offset` are what a refusal must say, if it is
 * not ANY; of a PREFIX, `offset` is the k of S(k).
 */
void damage_recover(outcome_t wanted, const char *name, uint64_t offset);

/* Whether the store's directory has this name. */
bool damage_there(const char *name);

/* One put, which must succeed. */
void damage_write_one(uint32_t id, uint32_t version);

/* Ends the process after this processor time; 0: never. */
void damage_watch(unsigned seconds);

/* Prints `sum` if KIT_SUM is set, and begins anew. */
void damage_sum_up(const char *of);


#endif /* DAMAGE_RIG_H */
