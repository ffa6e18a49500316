
/*
 * Power cuts, for the whole store.
 *
 * A seed grows a tree of lives.  The first begins with an empty disk (disk.h)
 * and does a hundred random things.  Then the power is cut at many moments of
 * it, and each disk that this may leave begins a life of its own: it is
 * recovered, and again, writes a little, and is cut in its turn, during its
 * recovery or later.
 *
 * All operations of a life are known by LSN.  What is recovered must be the
 * state after the first n of them, byte for byte, where n is not below what
 * was promised when the power went: what was answered or could be read, with
 * sync=always; what was answered an interval ago; what fills a segment or is
 * in a snapshot; what was recovered before.
 *
 * Clients remember every version that they could see, as its tag, and of which
 * value it is.  After the cut no version is another value's, what a client
 * writes for one whose write is lost is refused, and a watch goes on behind
 * none of these: where it goes on, all that came later is in the feed, once.
 *
 * Now and then a backup is made, while the store goes on.  It holds what the
 * first L operations left, for its L; and as it promises these to somebody who
 * may restore it, no cut takes one of them.
 *
 * One thread does everything, the clock and the kernel's randomness are the
 * test's, so a seed does the same again.  What threads do at the same time is
 * done inside each other's calls for I/O instead.
 *
 *     KIT_SEED=n     that tree alone
 *     KIT_IMAGES=n   n disks
 *     KIT_LOG=1      what the store says
 */

/* long */


#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#include "disk.h"
#include "kit.h"
#include "base/kv_crc32c.h"
#include "disk/kv_backup_private.h"
#include "disk/kv_snapshot.h"
#include "disk/kv_wal_walk.h"
#include "memory/kv_poison.h"
#include "store/kv_timeout.h"


#define IMAGES     6000u           /* if nothing else is said */

#define PLACES     2u
#define KEYS       64u
#define FLIGHT     24u             /* operations and groups at a time */
#define GROUP      6u              /* operations of one, at most */
#define INSIDE     16u             /* bursts inside one background task */
#define DEPTH      4u              /* lives, one after the other */
#define REGION     (24u << 20)
#define SEGMENT    (64u << 10)     /* the least; more where values need it */

#define MS         UINT64_C(1000000)
#define TICK       50000u          /* ns that reading the clock takes */
#define JUMP       8u              /* ms between two rounds of the loop */
#define INTERVAL   15u             /* ms, of sync=interval */
#define SLACK      (JUMP + 4)      /* ms that the sync may be late */


/* What a tree is like. */

typedef struct {
    const char       *name;
    unsigned          weight;      /* seeds of 16 */
    unsigned          always;      /* sync=always, in percent */
    unsigned          keys;
    unsigned          pages;       /* of the zone's heap */
    uint32_t          min_value;
    uint32_t          max_value;
    uint64_t          snapshot;    /* bytes of log, at most */
    unsigned          burst;       /* operations at a time, at most */
    unsigned          restart;     /* after one step of that many */
    unsigned          steps;       /* of the first life */
    unsigned          cuts;        /* of it */
} profile_t;


typedef struct {
    kv_op_code_t      code;
    uint32_t          id;
    uint32_t          version;
    uint32_t          len;
    bool              more;        /* the next one is of the same group */
} event_t;


/* An operation or a group under way. */

typedef struct {
    kv_op_t          *op;
    event_t           event;
    kv_group_t        group;
    event_t           member[GROUP];
    bool              impossible;  /* a condition of the group is false */
    uint8_t           flag;        /* its condition, */
    uint64_t          need;        /* and the LSN that it names */
    bool              answered;
    bool              learnt;
} flight_t;


/* A version that clients know, and the put whose value it is. */

typedef struct {
    char              tag[KV_VERSION_TAG];
    size_t            len;
    uint64_t          lsn;
    uint32_t          id;
    uint32_t          version;
} known_t;


typedef struct {
    uint64_t          lsn;
    uint64_t          ns;
} answer_t;


typedef enum {
    AT_NOTHING = 0,
    AT_COMMIT,
    AT_BACKGROUND
} at_t;


typedef struct {
    disk_t            disk;
    host_t            host;        /* no threads; .store NULL: stopped */
    at_t              at;

    event_t          *event;       /* by LSN - 1 */
    uint64_t          events;
    uint64_t          events_max;

    known_t          *known;       /* disk.known of them, by time */
    size_t            known_max;
    size_t           *cell;        /* 1 + its index, by tag; 0: free */
    size_t            cells;       /* a power of 2, twice known_max */

    flight_t          flight[FLIGHT];
    unsigned          flying;
    bool              background;  /* claimed, not run yet */
    unsigned          inside;      /* commits inside the task that runs */

    uint64_t          promised;    /* the LSN that may not be lost */
    uint64_t          recovered;   /* record from which on it was up */

    /* sync=interval: answers that are no promise yet */
    answer_t         *answer;
    size_t            answers;
    size_t            answers_first;
    size_t            answers_max;
} life_t;


typedef struct {
    unsigned          images;
    unsigned          trees;
    unsigned          lives;       /* stores started */
    unsigned          operations;
    unsigned          refused;     /* the zone is full */
    unsigned          reserves;
    unsigned          clears;
    unsigned          groups;      /* of them, done */
    unsigned          large;       /* values of more than 512 KiB */
    unsigned          inside;      /* commits inside background work */
    unsigned          snapshots;
    unsigned          backups;     /* that were whole, */
    unsigned          cut_short;   /* and others */
    unsigned          recycled;
    unsigned          notes;       /* stores started with such a file, */
    unsigned          old_notes;   /* of an end that the log went on after */
    unsigned          lossy;       /* images without all that was written */
    unsigned          more;        /* with more than was promised */
    unsigned          in_recovery; /* cuts */
    unsigned          kept;        /* incarnations, over a cut */
    unsigned          seen_lost;   /* cuts that took what clients had seen */
    unsigned          met;         /* conditions that were true, */
    unsigned          unmet;       /* were false when they were decided, */
    unsigned          returned;    /* values, by deletes */
    unsigned          early;       /* or when the request came */
    unsigned          lost;        /* versions known whose write is lost */
    unsigned          resumed;     /* versions behind which a watch goes on, */
    unsigned          gone;        /* and others of writes that are there */
    unsigned          mode[3];     /* images by kv_sync_t */
    unsigned          kind[DISK_KINDS];   /* cuts before such a record */
} totals_t;


/* Where all batches are of one size, lost ones leave gaps that new ones fit. */

static const profile_t  profiles[] = {
    { "small", 9, 70, 24, 20, 1, 3000, 24 << 10, 8, 40, 120, 40 },
    { "even", 2, 20, 9, 20, 500, 500, 24 << 10, 1, 4, 120, 40 },
    { "many", 2, 70, KEYS, 24, 1, 300, 12 << 10, 8, 40, 200, 40 },
    { "full", 2, 70, 24, 60, 1, 250000, 1 << 20, 8, 40, 60, 20 },
    { "large", 1, 70, 8, 100, 1, 1 << 20, 3 << 20, 8, 40, 30, 10 }
};


static kv_store_conf_t   conf;
static const profile_t  *profile;
static void             *region;
static size_t            zone_size;
static uint64_t          seed;     /* the tree's */
static uint64_t          chance;   /* its random numbers */
static uint64_t          salt;     /* the kernel's */
static uint64_t          now;      /* ns; 0: the system's clock */
static uint32_t          version;
static totals_t          totals;
static life_t           *living;   /* the one whose store runs */

/* one after the other, each cut out of the one before */
static life_t            lives[DEPTH + 1];


static size_t *known_cell(life_t *life, const known_t *k);
static void life_group_answered(life_t *life, flight_t *f, kv_rc_t rc);
static void life_done(life_t *life, uint64_t lsn, const event_t *event);
static void life_submit(life_t *life);
static void life_commit(life_t *life);
static void life_meanwhile(void *ctx);


/* ---- what the store gets from the system */


int
clock_gettime(clockid_t id, struct timespec *ts)
{
    if (now == 0) {
        return (int) syscall(SYS_clock_gettime, id, ts);
    }

    now += TICK;
    ts->tv_sec = (time_t) (now / (1000 * MS));
    ts->tv_nsec = (long) (now % (1000 * MS));

    return 0;
}


/* Other workers do not sleep while the background work pauses. */

int
nanosleep(const struct timespec *pause, struct timespec *left)
{
    uint64_t  ns, part;

    if (now == 0) {
        return (int) syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, pause,
                             left);
    }

    ns = (uint64_t) pause->tv_sec * 1000 * MS + (uint64_t) pause->tv_nsec;

    for ( /* void */ ; ns; ns -= part) {
        part = kv_min(ns, MS);
        now += part;

        if (living && living->at == AT_BACKGROUND) {
            life_meanwhile(living);
        }
    }

    return 0;
}


ssize_t
getrandom(void *buf, size_t n, unsigned flags)
{
    size_t   i;
    uint8_t  *p = buf;

    (void) flags;

    for (i = 0; i < n; i++) {
        p[i] = (uint8_t) disk_random(&salt, 256);
    }

    return (ssize_t) n;
}


/* ---- small things */


static uint32_t
rnd(uint64_t n)
{
    return (uint32_t) disk_random(&chance, n);
}


static void
say(void *ctx, kv_log_level_t level, const char *text)
{
    (void) ctx;

    totals.old_notes += strstr(text, "says that the log was closed") != NULL;

    if (getenv("KIT_LOG")) {
        (void) fprintf(stderr, "[%d] %s\n", level, text);
    }
}


/* Which seed it was, when the program is about to be ended by others. */

static void
last_words(void)
{
    char  text[64];
    int   n;

    n = snprintf(text, sizeof(text), "KIT_SEED=%llu\n",
                 (unsigned long long) seed);
    (void) !write(STDERR_FILENO, text, (size_t) n);
}


static void
on_signal(int sig)
{
    last_words();

    (void) signal(sig, SIG_DFL);
    (void) raise(sig);
}


#define broken(fmt, ...)                                                      \
    fail_msg("KIT_SEED=%llu (%s, sync %d, image %u): " fmt,                   \
             (unsigned long long) seed, profile->name, (int) conf.sync,       \
             totals.images, __VA_ARGS__)


/* From the least to the largest; all magnitudes alike. */

static uint32_t
some_length(void)
{
    uint32_t  below;

    below = profile->max_value - profile->min_value + 1;

    if (rnd(16) == 0) {
        return profile->max_value - rnd(kv_min(below, UINT32_C(64)));
    }

    while (below > 8 && rnd(8)) {
        below /= 2;
    }

    return profile->min_value + rnd(below);
}


/* ---- what clients know */


static void
known_index(life_t *life)
{
    size_t  i;

    for (life->cells = 64; life->cells < 2 * life->known_max; /* void */ ) {
        life->cells *= 2;
    }

    free(life->cell);
    life->cell = calloc(life->cells, sizeof(size_t));
    assert_non_null(life->cell);

    for (i = 0; i < life->disk.known; i++) {
        *known_cell(life, &life->known[i]) = i + 1;
    }
}


static void
known_grow(life_t *life)
{
    life->known_max = 2 * life->disk.known + 64;
    life->known = realloc(life->known, life->known_max * sizeof(known_t));
    assert_non_null(life->known);

    known_index(life);
}


/* The cell of the tag, or the free one where it would be. */

static size_t *
known_cell(life_t *life, const known_t *k)
{
    size_t          i, n;
    const known_t  *other;

    for (i = kv_crc32c(0, k->tag, k->len); /* void */ ; i++) {
        n = life->cell[i & (life->cells - 1)];

        if (n == 0) {
            break;
        }

        other = &life->known[n - 1];

        if (other->len == k->len && memcmp(other->tag, k->tag, k->len) == 0) {
            break;
        }
    }

    return &life->cell[i & (life->cells - 1)];
}


/* Clients see that a put's value has this version: no other ever has. */

static void
life_learn(life_t *life, const kv_version_t *v, uint32_t id, uint32_t value)
{
    size_t   *cell;
    known_t   k, *old;

    k.len = kv_version_tag(v, k.tag);
    k.lsn = v->lsn;
    k.id = id;
    k.version = value;

    if (life->disk.known == life->known_max) {
        known_grow(life);
    }

    cell = known_cell(life, &k);

    if (*cell) {
        old = &life->known[*cell - 1];

        if (old->id != id || old->version != value) {
            broken("%.*s is of put %u, of key %u; and of put %u, of key %u",
                   (int) k.len, k.tag, old->version, old->id, value, id);
        }

        return;
    }

    life->known[life->disk.known++] = k;
    *cell = life->disk.known;
}


/* The version of a key, and which put it is of; or LSN 0. */

static kv_version_t
life_version(life_t *life, uint32_t id, uint32_t *value)
{
    char          key[32];
    size_t        n;
    kv_entry_t   *e;
    kv_version_t  v;

    v.lsn = 0;
    v.incarnation = 0;
    *value = 0;
    n = kit_key(id, key);

    if (kv_store_read(life->host.store, key, n, &e) == KV_OK) {
        v = kv_store_version(life->host.store, e);
        kv_store_read_done(life->host.store);

        if (v.lsn <= life->events) {
            *value = life->event[v.lsn - 1].version;
        }
    }

    return v;
}


/*
 * Whether the request If-Match with that tag goes on to the committer, as
 * src/http/ngx_http_kv_condition.c decides it.  If so, its value is there.
 */

static bool
life_match(life_t *life, const known_t *k, const kv_version_t *v,
    uint32_t value)
{
    if (v->lsn == 0
        || kv_version_find(v, k->tag, k->len) != KV_TAGS_NAMED)
    {
        return false;
    }

    /* not answered yet: its event is not known */

    if (value != k->version && v->lsn <= life->events) {
        broken("%.*s is of put %u, of key %u, and matches put %u",
               (int) k->len, k->tag, k->version, k->id, value);
    }

    return true;
}


/* None of the versions that clients know matches another value. */

static void
life_match_all(life_t *life)
{
    size_t         i;
    uint32_t       id, value[KEYS];
    known_t       *k;
    kv_version_t   v[KEYS];

    for (id = 0; id < profile->keys; id++) {
        v[id] = life_version(life, id, &value[id]);
    }

    for (i = 0; i < life->disk.known; i++) {
        k = &life->known[i];
        totals.lost += k->lsn > life->events
                       || life->event[k->lsn - 1].version != k->version;

        (void) life_match(life, k, &v[k->id], value[k->id]);
    }
}


/* ---- what goes on behind a version */


/* What the feed has from there on is all that came behind the LSN. */

static void
life_watch(life_t *life, uint64_t lsn, uint64_t pos)
{
    char               key[32];
    kv_rc_t            rc;
    event_t           *e;
    kv_feed_kind_t     kind;
    kv_feed_record_t   rec;

    while ((rc = kv_store_feed_read(life->host.store, pos, &rec)) == KV_OK) {
        pos = rec.next;

        if (rec.lsn != ++lsn || lsn > life->events) {
            broken("a watch has LSN %llu, not %llu of %llu",
                   (unsigned long long) rec.lsn, (unsigned long long) lsn,
                   (unsigned long long) life->events);
        }

        e = &life->event[lsn - 1];
        kind = e->code == KV_OP_PUT ? KV_FEED_PUT
               : e->code == KV_OP_CLEAR ? KV_FEED_CLEAR : KV_FEED_DELETE;

        if (rec.kind != kind
            || (kind != KV_FEED_CLEAR
                && (rec.key_len != kit_key(e->id, key)
                    || memcmp(rec.key, key, rec.key_len) != 0)))
        {
            broken("a watch has another LSN %llu", (unsigned long long) lsn);
        }
    }

    if (rc != KV_NOT_FOUND || lsn != life->events) {
        broken("a watch ends at LSN %llu: %d", (unsigned long long) lsn, rc);
    }
}


/* Of each version that clients know. */

static void
life_watch_all(life_t *life)
{
    bool               there;
    size_t             i;
    known_t           *k;
    kv_rc_t            rc;
    uint64_t           pos;
    kv_version_t       v;
    kv_feed_record_t   rec;

    for (i = 0; i < life->disk.known; i++) {
        k = &life->known[i];
        there = k->lsn <= life->events
                && life->event[k->lsn - 1].version == k->version;

        assert_true(kv_version_parse_state(&v, k->tag, k->len));
        rc = kv_store_feed_find(life->host.store, &v, &pos, &rec);

        if (rc != KV_OK) {
            assert_true(rc == KV_DECLINED || rc == KV_PRECONDITION);
            totals.gone += there;
            continue;
        }

        if (!there) {
            broken("a watch goes on behind %.*s, which is lost", (int) k->len,
                   k->tag);
        }

        totals.resumed++;

        if (i % 8 == life->events % 8) {
            life_watch(life, v.lsn, pos);
        }
    }
}


/* ---- promises */


static void
life_promise(life_t *life, uint64_t lsn)
{
    life->promised = kv_max(life->promised, lsn);
}


/* The LSN of the key's value behind the first `n` events. */

static uint64_t
life_lsn(const life_t *life, uint32_t id, uint64_t n)
{
    for ( /* void */ ; n; n--) {

        if (life->event[n - 1].code == KV_OP_CLEAR) {
            return 0;
        }

        if (life->event[n - 1].id == id) {
            return life->event[n - 1].code == KV_OP_PUT ? n : 0;
        }
    }

    return 0;
}


static bool
life_true(uint8_t flag, uint64_t need, uint64_t lsn)
{
    switch (flag) {

    case KV_OP_IF_VERSION:
        return lsn == need;

    case KV_OP_IF_PRESENT:
        return lsn != 0;

    case KV_OP_IF_ABSENT:
        return lsn == 0;

    default:
        return true;
    }
}


/* The operation was done: its condition was true then. */

static void
life_met(life_t *life, flight_t *f)
{
    uint64_t  lsn;

    lsn = life_lsn(life, f->event.id, f->op->lsn - 1);
    totals.met += f->flag != 0;

    if (!life_true(f->flag, f->need, lsn)) {
        broken("LSN %llu was for LSN %llu of key %u (%u), not for %llu",
               (unsigned long long) f->op->lsn, (unsigned long long) f->need,
               f->event.id, f->flag, (unsigned long long) lsn);
    }
}


/* It was not: that tells what is there, and durable if that was promised. */

static void
life_unmet(life_t *life, flight_t *f)
{
    kv_version_t  v;

    v = kv_store_result(life->host.store, f->op);
    totals.unmet++;

    if (life_true(f->flag, f->need, v.lsn)
        || v.lsn != life_lsn(life, f->event.id, life->events))
    {
        broken("key %u is refused (%u, LSN %llu): it has LSN %llu",
               f->event.id, f->flag, (unsigned long long) f->need,
               (unsigned long long) v.lsn);
    }

    if (v.lsn) {
        life_learn(life, &v, f->event.id, life->event[v.lsn - 1].version);
    }

    if (conf.sync == KV_SYNC_ALWAYS) {
        life_promise(life, v.lsn);
    }
}


/* A delete that returns the value: what the last put has left. */

static void
life_returned(life_t *life, flight_t *f)
{
    uint64_t        lsn;
    const event_t  *e;

    lsn = life_lsn(life, f->event.id, f->op->lsn - 1);
    e = lsn ? &life->event[lsn - 1] : NULL;
    totals.returned++;

    if (e == NULL
        || kv_store_result(life->host.store, f->op).lsn != lsn
        || !kit_holds(kv_store_returned(f->op), e->id, e->version, e->len))
    {
        broken("LSN %llu returned what was not key %u",
               (unsigned long long) f->op->lsn, f->event.id);
    }
}


/* It found none. */

static void
life_none(life_t *life, flight_t *f)
{
    totals.unmet++;

    if (life_lsn(life, f->event.id, life->events)) {
        broken("a delete of key %u found no value", f->event.id);
    }
}


static void
life_answered(life_t *life, flight_t *f, kv_rc_t rc)
{
    f->answered = true;

    if (f->op->code == KV_OP_GROUP) {
        life_group_answered(life, f, rc);
        return;
    }

    if (f->op->code == KV_OP_RESERVE) {
        assert_true(rc == KV_OK || rc == KV_AGAIN || rc == KV_NO_MEMORY);
        return;
    }

    if (rc == KV_NO_MEMORY) {
        totals.refused++;
        return;
    }

    if (rc == KV_PRECONDITION && f->flag) {
        life_unmet(life, f);
        return;
    }

    if (rc == KV_NOT_FOUND && f->op->flags & KV_OP_RETURN) {
        life_none(life, f);
        return;
    }

    if (rc != KV_OK) {
        broken("an operation failed: %d", rc);
    }

    life_met(life, f);

    if (f->op->flags & KV_OP_RETURN) {
        life_returned(life, f);
    }

    life_done(life, f->op->lsn, &f->event);
}


/* All its members are done, one behind the other, or none. */

static void
life_group_answered(life_t *life, flight_t *f, kv_rc_t rc)
{
    kv_op_t   *op;
    unsigned   i;

    if (rc == KV_NO_MEMORY) {
        totals.refused++;
        return;
    }

    if (f->impossible ? rc != KV_PRECONDITION : rc != KV_OK) {
        broken("a group failed: %d", rc);
    }

    if (rc != KV_OK) {
        return;
    }

    totals.groups++;

    for (op = kv_store_group_first(&f->group), i = 0;
         op;
         op = kv_store_group_next(op), i++)
    {
        f->member[i].more = kv_store_group_next(op) != NULL;
        life_done(life, op->lsn, &f->member[i]);
    }
}


static void
life_done(life_t *life, uint64_t lsn, const event_t *event)
{
    totals.operations++;

    if (lsn > life->events_max) {
        life->events_max = kv_max(2 * life->events_max, lsn + 64);
        life->event = realloc(life->event,
                              life->events_max * sizeof(event_t));
        assert_non_null(life->event);
    }

    /* LSNs have no gaps, and operations are answered in their order */

    assert_int_equal(lsn, life->events + 1);

    life->event[life->events++] = *event;

    if (conf.sync == KV_SYNC_ALWAYS) {
        life_promise(life, lsn);
        return;
    }

    if (life->answers == life->answers_max) {
        life->answers_max = 2 * life->answers_max + 64;
        life->answer = realloc(life->answer,
                               life->answers_max * sizeof(answer_t));
        assert_non_null(life->answer);
    }

    life->answer[life->answers].lsn = lsn;
    life->answer[life->answers++].ns = now;
}


/* Whether a reader could see what the put has written. */

static bool
life_visible(life_t *life, const event_t *e)
{
    char         key[32];
    bool         visible;
    size_t       n;
    kv_entry_t  *entry;

    n = kit_key(e->id, key);

    if (e->code != KV_OP_PUT
        || kv_store_read(life->host.store, key, n, &entry) != KV_OK)
    {
        return false;
    }

    visible = kit_holds(entry, e->id, e->version, e->len);
    kv_store_read_done(life->host.store);

    return visible;
}


/* A put that was applied is visible, answered or not. */

static void
life_learn_put(life_t *life, flight_t *f)
{
    kv_zone_t     *zone;
    kv_version_t   v;

    zone = life->host.store->zone;

    if (f->learnt || f->op->code != KV_OP_PUT || f->op->lsn == 0
        || f->op->lsn > atomic_load(&zone->applied_lsn))
    {
        return;
    }

    v.lsn = f->op->lsn;
    v.incarnation = zone->wal.incarnation;
    life_learn(life, &v, f->event.id, f->event.version);
    f->learnt = true;
}


/* Notes what may not be lost from now on. */

static void
life_note(life_t *life)
{
    kv_rc_t     rc;
    unsigned    i;
    flight_t   *f;
    answer_t   *a;
    kv_zone_t  *zone;

    for (i = 0; i < life->flying; i++) {
        f = &life->flight[i];

        if (!f->answered && kv_store_done(f->op, &rc)) {
            life_answered(life, f, rc);

        } else if (!f->answered && conf.sync == KV_SYNC_ALWAYS
                   && f->event.len >= 8 && life_visible(life, &f->event))
        {
            life_promise(life, f->op->lsn);
        }

        life_learn_put(life, f);
    }

    while (conf.sync == KV_SYNC_INTERVAL
           && life->answers_first < life->answers)
    {
        a = &life->answer[life->answers_first];

        if (a->ns + (INTERVAL + SLACK) * MS > now) {
            break;
        }

        life_promise(life, a->lsn);
        life->answers_first++;
    }

    /* whatever the mode: full segments, and snapshots that have ended */

    zone = life->host.store->zone;
    life_promise(life, kv_max(zone->wal.segment_lsn, UINT64_C(1)) - 1);
    life_promise(life, atomic_load(&zone->snapshot_lsn));

    life->disk.note = life->promised;

    /* what clients know by its version */

    life->disk.incarnation = zone->wal.incarnation;
    life->disk.seen = conf.sync == KV_SYNC_ALWAYS
                      ? life->promised : atomic_load(&zone->applied_lsn);
}


/* ---- operations */


static void
life_fly(life_t *life, kv_op_t *op, const event_t *event, uint8_t flag,
    const kv_version_t *need)
{
    flight_t  *f;

    f = &life->flight[life->flying++];
    f->op = op;
    f->event = *event;
    f->flag = flag;
    f->need = need ? need->lsn : 0;
    f->answered = false;
    f->learnt = false;

    if (flag) {
        kv_store_if(op, flag, need);
    }

    if (kv_store_submit(life->host.store, op) & KV_TODO_COMMIT
        && life->at != AT_NOTHING)
    {
        /* the one that is at work takes it */

        kv_store_unclaim(life->host.store, KV_TODO_COMMIT);
    }
}


static void
life_put(life_t *life, uint32_t id, uint8_t flag, const kv_version_t *need)
{
    kv_rc_t   rc;
    kv_op_t  *op;
    event_t   event;

    memset(&event, 0, sizeof(event));
    event.code = KV_OP_PUT;
    event.id = id;
    event.version = ++version;
    event.len = some_length();

    rc = kit_begin_put(&life->host, event.id, event.version, event.len, &op);

    if (rc == KV_OK) {
        totals.large += event.len > 512 << 10;
        life_fly(life, op, &event, flag, need);
        return;
    }

    assert_int_equal(rc, KV_NO_MEMORY);
    totals.refused++;

    if (rnd(2)
        && kv_store_reserve(life->host.store, event.len, 0, &op) == KV_OK)
    {
        totals.reserves++;
        memset(&event, 0, sizeof(event));
        life_fly(life, op, &event, 0, NULL);
    }
}


static void
life_delete(life_t *life, uint32_t id, uint8_t flag, const kv_version_t *need)
{
    char      key[32];
    size_t    n;
    kv_rc_t   rc;
    kv_op_t  *op;
    event_t   event;

    memset(&event, 0, sizeof(event));
    event.code = KV_OP_DELETE;
    event.id = id;

    n = kit_key(event.id, key);
    rc = kv_store_delete(life->host.store, key, (uint16_t) n, &op);

    if (rc != KV_OK) {
        broken("a delete was refused: %d", rc);
    }

    if (rnd(3) == 0) {
        kv_store_return(op);
    }

    life_fly(life, op, &event, flag, need);
}


static void
life_clear(life_t *life)
{
    kv_op_t  *op;
    event_t   event;

    memset(&event, 0, sizeof(event));
    event.code = KV_OP_CLEAR;
    totals.clears++;

    assert_int_equal(kv_store_clear(life->host.store, &op), KV_OK);
    life_fly(life, op, &event, 0, NULL);
}


/* Adds a put or a delete to a group.  False: it does not fit. */

static bool
life_add(life_t *life, flight_t *f, bool created)
{
    char      key[32];
    size_t    n;
    kv_rc_t   rc;
    kv_op_t  *op;
    event_t  *event;

    event = &f->member[f->group.n];
    memset(event, 0, sizeof(event_t));
    event->id = created ? f->member[0].id : rnd(profile->keys);
    event->code = f->group.n == 0 || created || rnd(3) ? KV_OP_PUT
                                                       : KV_OP_DELETE;

    if (event->code == KV_OP_PUT) {
        event->version = ++version;
        event->len = some_length();
        rc = kit_begin_put(&life->host, event->id, event->version, event->len,
                           &op);

    } else {
        n = kit_key(event->id, key);
        rc = kv_store_delete(life->host.store, key, (uint16_t) n, &op);
    }

    if (rc != KV_OK) {
        assert_int_equal(rc, KV_NO_MEMORY);
        totals.refused++;
        return false;
    }

    if (created) {
        kv_store_if(op, KV_OP_IF_ABSENT, NULL);
    }

    if (kv_store_group_add(life->host.store, &f->group, op) != KV_OK) {
        kv_store_release(life->host.store, op);
        return false;
    }

    return true;
}


/*
 * Some operations that are done together; or none, if the last is for nothing
 * to be where the first has put something.
 */

static void
life_group(life_t *life)
{
    event_t    none;
    unsigned   n;
    flight_t  *f;

    f = &life->flight[life->flying];
    f->impossible = rnd(6) == 0;
    memset(&none, 0, sizeof(none));

    if (kv_store_group(life->host.store, &f->group) != KV_OK) {
        broken("%s", "a group was refused");
    }

    for (n = 1 + rnd(GROUP - 1); n && life_add(life, f, false); n--) {
        /* void */
    }

    /* the first may be deleted again */

    for (n = 1; n < f->group.n; n++) {
        f->impossible = f->impossible
                        && (f->member[n].id != f->member[0].id
                            || f->member[n].code == KV_OP_PUT);
    }

    if (f->group.n == 0 || (f->impossible && !life_add(life, f, true))) {
        kv_store_release(life->host.store, f->group.op);
        return;
    }

    life_fly(life, f->group.op, &none, 0, NULL);
}


/* A write for a version that clients know, one of the last or an old one. */

static void
life_conditional(life_t *life)
{
    size_t         n;
    uint8_t        flag;
    uint32_t       value;
    known_t       *k;
    kv_version_t   v;

    static const uint8_t  flags[] = {
        KV_OP_IF_VERSION, KV_OP_IF_VERSION, KV_OP_IF_VERSION, KV_OP_IF_PRESENT,
        KV_OP_IF_ABSENT
    };

    n = life->disk.known;

    if (n == 0) {
        return;
    }

    n -= 1 + rnd(rnd(3) ? kv_min(n, (size_t) profile->keys) : n);
    flag = flags[rnd(sizeof(flags))];
    k = &life->known[n];
    v = life_version(life, k->id, &value);

    if (flag == KV_OP_IF_VERSION && !life_match(life, k, &v, value)) {
        totals.early++;
        return;
    }

    if (rnd(5) == 0) {
        life_delete(life, k->id, flag, &v);

    } else {
        life_put(life, k->id, flag, &v);
    }
}


static void
life_submit(life_t *life)
{
    uint32_t  kind;

    if (life->flying == FLIGHT) {
        return;
    }

    kind = rnd(200);

    if (kind < 1) {
        life_clear(life);

    } else if (kind < 30) {
        life_delete(life, rnd(profile->keys), 0, NULL);

    } else if (kind < 90) {
        life_conditional(life);

    } else if (kind < 115) {
        life_group(life);

    } else {
        life_put(life, rnd(profile->keys), 0, NULL);
    }
}


/* Works off all that is queued. */

static void
life_commit(life_t *life)
{
    at_t      at;
    unsigned  i;

    at = life->at;
    life->at = AT_COMMIT;

    kv_store_commit(life->host.store);

    life->at = at;
    life_note(life);

    for (i = 0; i < life->flying; i++) {
        assert_true(life->flight[i].answered);
        kv_store_release(life->host.store, life->flight[i].op);
    }

    life->flying = 0;
}


static void
life_burst(life_t *life)
{
    unsigned  n;

    for (n = 1 + rnd(rnd(2) ? profile->burst : 1); n; n--) {
        life_submit(life);
    }

    life_commit(life);
}


static void
life_background(life_t *life)
{
    life->at = AT_BACKGROUND;
    life->background = false;
    life->inside = 0;

    kv_store_background(life->host.store);

    life->at = AT_NOTHING;
    life_note(life);
}


/* The disk is about to change: what others do meanwhile. */

static void
life_meanwhile(void *ctx)
{
    life_t      *life = ctx;
    kv_store_t  *store;

    store = life->host.store;

    if (store == NULL) {
        return;
    }

    life_note(life);

    if (life->at == AT_COMMIT && rnd(8) == 0) {
        life_submit(life);
    }

    if (life->at == AT_BACKGROUND
        && (rnd(3) == 0 || kv_timeout_sync(store) == KV_TIMEOUT_NOW)
        && kv_mutex_trylock(&store->zone->commit_lock) == KV_OK)
    {
        kv_mutex_unlock(&store->zone->commit_lock);
        totals.inside++;

        /* a log that always grows more than a snapshot needs ever the next */

        if (life->inside++ < INSIDE) {
            life_burst(life);

        } else {
            life_commit(life);
        }
    }

    life_note(life);
}


/* The event loop: what is to be done. */

static void
life_process_events(life_t *life)
{
    unsigned  todo;

    todo = kv_store_todo(life->host.store);

    assert_false(todo & KV_TODO_RESET);

    if (todo & KV_TODO_COMMIT) {
        life_commit(life);
    }

    if (todo & KV_TODO_BACKGROUND) {
        life->background = true;
    }

    if (life->background && rnd(2)) {
        life_background(life);
    }
}


/* ---- the store */


/* A client reads it: whether it has the LSN of its put. */

static bool
life_learn_key(life_t *life, const kv_entry_t *e, uint64_t lsn,
    const event_t *put)
{
    kv_version_t  v;

    v = kv_store_version(life->host.store, e);

    if (v.lsn != lsn) {
        return false;
    }

    life_learn(life, &v, put->id, put->version);

    return true;
}


/* Compares all of it with the first `n` events. */

static void
life_verify(life_t *life, uint64_t n, const char *when)
{
    char         key[32];
    bool         good;
    size_t       len;
    event_t      state[KEYS];
    uint32_t     id;
    uint64_t     i, keys, lsn[KEYS];
    kv_rc_t      rc;
    kv_entry_t  *e;

    memset(state, 0, sizeof(state));

    for (i = 0; i < n; i++) {

        if (life->event[i].code == KV_OP_CLEAR) {
            memset(state, 0, sizeof(state));
            continue;
        }

        state[life->event[i].id] = life->event[i];
        lsn[life->event[i].id] = i + 1;
    }

    keys = 0;

    for (id = 0; id < profile->keys; id++) {

        len = kit_key(id, key);
        rc = kv_store_read(life->host.store, key, len, &e);

        if (state[id].code == KV_OP_PUT) {
            good = rc == KV_OK
                   && kit_holds(e, id, state[id].version, state[id].len)
                   && life_learn_key(life, e, lsn[id], &state[id]);
            keys++;

        } else {
            good = rc == KV_NOT_FOUND;
        }

        if (rc == KV_OK) {
            kv_store_read_done(life->host.store);
        }

        if (!good) {
            broken("%s: key %u is not what LSN %llu left", when, id,
                   (unsigned long long) n);
        }
    }

    if (atomic_load(&life->host.store->zone->map.keys) != keys) {
        broken("%s: there are keys that were never written", when);
    }
}


/* Recovers the disk: LSNs from `least` to `most` may be there. */

static void
life_start(life_t *life, uint64_t least, uint64_t most, const char *when)
{
    char        *ring;
    kv_rc_t      rc;
    uint64_t     n;
    kv_err_t     err;
    kv_store_t  *store;

    totals.lives++;

    /* all but the heap, which takes any memory */

    memset(region, 0, kv_store_overhead(zone_size, PLACES));
    ring = (char *) region + zone_size - conf.feed;
    kv_poison_forget(ring, conf.feed);
    memset(ring, 0, conf.feed);

    life->disk.can_direct = rnd(2);

    rc = kv_store_create(&store, &conf, region, zone_size, PLACES,
                         &life->disk.io, DISK_DIR, &err);

    if (rc != KV_OK) {
        broken("%s: no recovery: %d, %s", when, rc, err.text);
    }

    totals.notes += atomic_load(&store->zone->wal.closed) != KV_WAL_NOTE_NONE;

    if (totals.old_notes) {
        broken("%s: the log goes on after the note of its end", when);
    }

    memset(&life->host, 0, sizeof(host_t));
    life->host.store = store;
    living = life;

    assert_int_equal(kv_store_enter(store), KV_OK);

    n = atomic_load(&store->zone->wal.next_lsn) - 1;

    if (n < least || n > most) {
        broken("%s: LSN %llu was recovered, not %llu to %llu", when,
               (unsigned long long) n, (unsigned long long) least,
               (unsigned long long) most);
    }

    if (n && n < most && life->event[n - 1].more) {
        broken("%s: LSN %llu is in the middle of a group", when,
               (unsigned long long) n);
    }

    life_verify(life, n, when);

    life->events = n;
    life->answers = 0;
    life->answers_first = 0;

    /* the new store shows it: so it stays */

    life->promised = n;
    life->disk.note = n;

    life_match_all(life);
    life_watch_all(life);
}


static void
life_stop(life_t *life, bool clean)
{
    kv_store_t  *store;

    store = life->host.store;

    totals.snapshots += (unsigned) atomic_load(&store->zone->snapshots);

    if (clean) {
        store->stop = 1;
        kv_store_commit(store);
    }

    life->background = false;
    kv_store_leave(store);

    if (clean) {

        /* whatever the mode */

        kv_store_close(store);
        life_promise(life, life->events);
        life->disk.note = life->promised;
    }

    kv_store_destroy(store);
    life->host.store = NULL;
    living = NULL;

    assert_int_equal(disk_open_fds(&life->disk), 0);
}


/* What a backup says of each key: the LSN of its value, or 0. */

typedef struct {
    uint64_t          lsn[KEYS];
    uint32_t          len[KEYS];
} saved_t;


static kv_rc_t
saved_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    char      key[32];
    saved_t  *saved = ctx;
    uint32_t  id;

    (void) lsn;

    if (rec->op == KV_OP_CLEAR) {
        memset(saved, 0, sizeof(*saved));
        return KV_OK;
    }

    for (id = 0; id < profile->keys; id++) {
        if (kit_key(id, key) == rec->key_len
            && memcmp(key, rec->key, rec->key_len) == 0)
        {
            saved->lsn[id] = rec->op == KV_OP_PUT ? rec->lsn : 0;
            saved->len[id] = rec->value_len;
            return KV_OK;
        }
    }

    broken("a backup has a key of %u bytes that was never written",
           rec->key_len);

    return KV_ERROR;
}


static void
life_compare_backup(life_t *life, const saved_t *saved, uint64_t n)
{
    uint32_t  id;
    uint64_t  i, lsn[KEYS];

    memset(lsn, 0, sizeof(lsn));

    for (i = 0; i < n; i++) {

        if (life->event[i].code == KV_OP_CLEAR) {
            memset(lsn, 0, sizeof(lsn));

        } else {
            lsn[life->event[i].id] = life->event[i].code == KV_OP_PUT ? i + 1
                                                                      : 0;
        }
    }

    for (id = 0; id < profile->keys; id++) {

        if (saved->lsn[id] != lsn[id]
            || (lsn[id] && saved->len[id] != life->event[lsn[id] - 1].len))
        {
            broken("a backup up to LSN %llu: key %u is of LSN %llu, not %llu",
                   (unsigned long long) n, id,
                   (unsigned long long) saved->lsn[id],
                   (unsigned long long) lsn[id]);
        }
    }
}


/* Reads the file back, with the readers of a directory. */

static void
life_check_backup(life_t *life, int fd, uint64_t lsn)
{
    char                 path[32];
    kv_rc_t              rc;
    saved_t              saved;
    kv_err_t             err;
    uint64_t             end, bytes;
    kv_wal_walk_t        walk;
    kv_backup_header_t   header;
    kv_backup_reader_t   r;

    memset(&saved, 0, sizeof(saved));
    (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

    rc = kv_backup_check(path, NULL, &header, &err);

    if (rc != KV_OK || header.lsn != lsn
        || (rc = kv_backup_open(&r, path, NULL, 1, &err)) != KV_OK)
    {
        broken("a backup is bad: %d, %s", rc, err.text);
    }

    if (header.snapshot_lsn) {
        rc = kv_snapshot_read(&r.io, -1, header.snapshot_lsn, saved_record,
                              &saved, &end, &bytes, &err);
    }

    memset(&walk, 0, sizeof(walk));
    walk.io = &r.io;
    walk.after = header.snapshot_lsn;
    walk.upto = header.lsn;
    walk.record = saved_record;
    walk.ctx = &saved;

    if (rc == KV_OK) {
        rc = kv_wal_walk(&walk, &err);
    }

    if (rc != KV_OK) {
        broken("a backup is bad: %d, %s", rc, err.text);
    }

    free(walk.part);
    kv_backup_close(&r);

    life_compare_backup(life, &saved, lsn);
}


static void
life_backup(life_t *life)
{
    int                      fd;
    size_t                   n;
    kv_rc_t                  rc;
    kv_store_backup_t       *backup;
    kv_store_backup_info_t   info;

    static char  buf[65536];

    fd = memfd_create("backup", 0);
    assert_true(fd >= 0);

    rc = kv_store_backup_begin(life->host.store,
                               rnd(2) ? UINT64_C(1) << 40 : rnd(SEGMENT),
                               &backup);
    assert_int_equal(rc, KV_OK);

    rc = kv_store_backup_prepare(backup, &info);

    if (rc == KV_OK) {
        life_promise(life, info.lsn);
        life_note(life);
    }

    for (n = 1; rc == KV_OK && n; /* void */) {

        rc = kv_store_backup_read(backup, buf, 1 + rnd(sizeof(buf)), &n);

        if (rc == KV_OK) {
            assert_int_equal(write(fd, buf, n), n);
        }

        if (rnd(4) == 0) {
            life_burst(life);
            life_process_events(life);
        }
    }

    kv_store_backup_end(backup, rc == KV_OK);

    if (rc == KV_OK) {
        totals.backups++;
        life_check_backup(life, fd, info.lsn);

    } else {
        totals.cut_short++;
    }

    (void) close(fd);
}


/* Nothing is lost when only processes die. */

static void
life_restart(life_t *life)
{
    life_stop(life, rnd(2));
    life_start(life, life->events, life->events, "started again");
}


static void
life_work(life_t *life, unsigned steps)
{
    while (steps--) {

        if (rnd(5) == 0) {
            now += 1 + rnd(JUMP * MS);

            if (conf.sync != KV_SYNC_INTERVAL && rnd(2)) {
                now += KV_STORE_QUIET * MS;
            }

        } else {
            life_burst(life);
        }

        life_process_events(life);

        if (rnd(30) == 0) {
            life_backup(life);
        }

        if (rnd(profile->restart) == 0) {
            life_restart(life);
        }
    }

    life_verify(life, life->events, "at work");
}


static void
life_free(life_t *life)
{
    size_t  i;

    for (i = 0; i < life->disk.records; i++) {
        totals.recycled += life->disk.record[i].kind == DISK_RENAME
                           && strncmp(life->disk.record[i].name, "log", 3) == 0
                           && strncmp(life->disk.record[i].to, "spare", 5)
                              == 0;
    }

    disk_clear(&life->disk);
    free(life->event);
    free(life->answer);
    free(life->known);
    free(life->cell);
}


/* ---- cuts */


/*
 * A write that clients have seen, up to LSN `seen`, and that is gone, has left
 * its LSN to another one: then they must not have the same version.
 */

static void
life_versions(life_t *life, uint64_t seen, uint64_t incarnation)
{
    bool  same;

    same = life->host.store->zone->wal.incarnation == incarnation;
    totals.kept += same;

    if (life->events >= seen) {
        return;
    }

    totals.seen_lost++;

    if (same) {
        broken("LSN %llu is the last, %llu was seen, and versions go on",
               (unsigned long long) life->events, (unsigned long long) seen);
    }
}


/* A moment of the life, not before `least`, not after `most`. */

static size_t
moment(const life_t *life, size_t least, size_t most)
{
    size_t       at;
    disk_kind_t  from;

    at = least + rnd(most - least + 1);

    /* most records are writes and syncs, and what is between them matters */

    from = rnd(3) == 0 ? DISK_CREATE : rnd(3) == 0 ? DISK_RESIZE : DISK_WRITE;

    while (at < most && life->disk.record[at].kind < from) {
        at++;
    }

    return at;
}


/*
 * The power goes before record `at` of a life that is over; what follows is a
 * life of its own, and perhaps the next cut.
 */

static void
cut(life_t *parent, size_t at, unsigned depth)
{
    life_t   *life;
    disk_t   *disk;
    size_t    known;
    uint64_t  least, seen, incarnation;

    disk = &parent->disk;
    known = disk->known;
    least = disk->note;
    seen = disk->seen;
    incarnation = disk->incarnation;

    if (at < disk->records) {
        known = disk->record[at].known;
        least = disk->record[at].note;
        seen = disk->record[at].seen;
        incarnation = disk->record[at].incarnation;
        totals.kind[disk->record[at].kind]++;
    }

    totals.images++;
    totals.mode[conf.sync]++;
    totals.in_recovery += at < parent->recovered;

    life = &lives[depth];
    memset(life, 0, sizeof(life_t));

    totals.lossy += disk_cut(disk, at, &chance, &life->disk) > 0;

    life->disk.before = life_meanwhile;
    life->disk.ctx = life;
    life->disk.note = least;

    life->event = calloc(parent->events + 1, sizeof(event_t));
    assert_non_null(life->event);

    if (parent->events) {
        memcpy(life->event, parent->event, parent->events * sizeof(event_t));
        life->events_max = parent->events;
    }

    /* clients outlive the cut */

    life->disk.known = known;
    life->known_max = known + 64;
    life->known = malloc(life->known_max * sizeof(known_t));
    assert_non_null(life->known);

    if (known) {
        memcpy(life->known, parent->known, known * sizeof(known_t));
    }

    known_index(life);

    life_start(life, least, parent->events, "after the cut");
    life_versions(life, seen, incarnation);

    life->recovered = life->disk.records;
    totals.more += life->events > least;

    life_stop(life, false);
    life_start(life, life->events, life->events, "recovered again");

    life_work(life, 1 + rnd(rnd(4) ? 3 : profile->steps / 4));
    life_stop(life, rnd(2));

    if (depth < DEPTH && rnd(3)) {
        cut(life, moment(life, 0, rnd(2) ? life->recovered
                                         : life->disk.records), depth + 1);
    }

    life_free(life);
}


/* ---- trees */


static void
choose_profile(void)
{
    size_t    i;
    uint64_t  n;

    n = seed % 16;

    for (i = 0; n >= profiles[i].weight; i++) {
        n -= profiles[i].weight;
    }

    profile = &profiles[i];

    memset(&conf, 0, sizeof(conf));
    conf.name = "test";
    conf.path = "disk";
    conf.sync = rnd(100) < profile->always ? KV_SYNC_ALWAYS
                                           : KV_SYNC_INTERVAL + rnd(2);
    conf.sync_interval = INTERVAL;
    conf.batch = 100;
    conf.segment = SEGMENT;
    conf.snapshot = profile->snapshot / 16 + rnd(profile->snapshot);
    conf.max_value = profile->max_value;
    conf.feed = KV_FEED_MIN;
    conf.log = say;
    conf.cluster = KIT_CLUSTERS && rnd(3) == 0 ? KIT_ADDRESS : kit_cluster();

    zone_size = (profile->pages + 1) * KV_PAGE_SIZE;
    zone_size += kv_store_overhead(zone_size, PLACES) + conf.feed;
    assert_in_range(zone_size, 1, REGION);
}


/* One seed's tree. */

static void
tree(void)
{
    size_t     at, end;
    life_t    *life;
    unsigned   left;

    chance = seed;
    salt = ~seed;
    now = 1000 * MS;
    version = 0;
    totals.trees++;

    choose_profile();

    life = &lives[0];
    memset(life, 0, sizeof(life_t));
    disk_init(&life->disk);
    life->disk.before = life_meanwhile;
    life->disk.ctx = life;

    life_start(life, 0, 0, "empty");
    life_work(life, profile->steps / 4 + rnd(profile->steps));
    life_stop(life, rnd(2));

    /* a disk is cut at one moment after the other */

    for (at = 0, left = profile->cuts; left; left--) {
        end = at + 2 * (life->disk.records - at) / left;
        at = moment(life, at, kv_min(end, life->disk.records));
        cut(life, at, 1);
    }

    life_free(life);
    now = 0;
}


static void
test_power_cuts(void **ctx)
{
    size_t       i;
    unsigned     images;
    const char  *given;

    (void) ctx;

    given = getenv("KIT_SEED");

    if (given) {
        seed = strtoull(given, NULL, 10);
        tree();
        return;
    }

    given = getenv("KIT_IMAGES");
    images = given ? (unsigned) strtoul(given, NULL, 10) : IMAGES;

    for (seed = kv_now_ns(); totals.images < images; seed++) {
        tree();
    }

    if (images < IMAGES) {
        return;
    }

    /* a test that has not been everywhere says nothing */

    assert_true(totals.operations && totals.refused && totals.reserves
                && totals.clears && totals.groups && totals.large
                && totals.inside
                && totals.snapshots && totals.recycled && totals.lossy
                && totals.backups && totals.cut_short
                && totals.more && totals.in_recovery && totals.notes
                && totals.kept && totals.seen_lost && totals.met
                && totals.unmet && totals.returned && totals.early
                && totals.lost && totals.resumed && totals.gone);

    for (i = 0; i < 3; i++) {
        assert_true(totals.mode[i]);
    }

    for (i = 0; i < DISK_KINDS; i++) {
        assert_true(totals.kind[i]);
    }
}


/* ---- the disk itself */


/* A byte of a file's second sector; a blank: it is too short; 0: no file. */

static char
found(disk_t *disk, const char *name)
{
    int   fd;
    char  byte;

    fd = disk->io.open(&disk->io, DISK_DIR, name, O_RDONLY);

    if (fd == -1) {
        return 0;
    }

    byte = ' ';
    assert_true(disk->io.pread(&disk->io, fd, &byte, 1, DISK_SECTOR) <= 1);
    (void) disk->io.close(&disk->io, fd);

    return byte;
}


/* Cuts leave one of the letters of the file, and each; "-" stands for none. */

static void
leaves(disk_t *disk, const char *name, const char *letters)
{
    char      byte;
    disk_t    image;
    size_t    lost;
    unsigned  i, seen[128];

    memset(seen, 0, sizeof(seen));

    for (i = 0; i < 400; i++) {
        lost = disk_cut(disk, disk->records, &chance, &image);
        byte = found(&image, name);

        if (strchr(letters, byte ? byte : '-') == NULL) {
            fail_msg("%s: '%c' is there, not one of \"%s\"", name, byte,
                     letters);
        }

        assert_true(lost || byte == found(disk, name));

        seen[byte ? (unsigned char) byte : '-']++;
        disk_clear(&image);
    }

    for (i = 0; letters[i]; i++) {
        if (seen[(unsigned char) letters[i]] == 0) {
            fail_msg("%s: '%c' is never there", name, letters[i]);
        }
    }
}


static void
overwrite(disk_t *disk, int fd, char letter)
{
    char  sectors[3 * DISK_SECTOR];

    memset(sectors, letter, sizeof(sectors));
    assert_int_equal(kv_io_write(&disk->io, fd, sectors, sizeof(sectors), 0),
                     KV_OK);
}


/* All that may be lost is lost at times, all that may stay stays. */

static void
test_disk(void **ctx)
{
    int       fd;
    disk_t    disk;
    kv_io_t  *io;

    (void) ctx;

    chance = kv_now_ns();
    disk_init(&disk);
    io = &disk.io;

    fd = io->open(io, DISK_DIR, "a", O_RDWR|O_CREAT|O_EXCL);
    overwrite(&disk, fd, 'A');
    leaves(&disk, "a", "- A");

    assert_int_equal(io->fdatasync(io, fd), 0);
    leaves(&disk, "a", "-A");

    assert_int_equal(io->fsync(io, DISK_DIR), 0);
    leaves(&disk, "a", "A");

    overwrite(&disk, fd, 'B');
    overwrite(&disk, fd, 'C');
    leaves(&disk, "a", "ABC");

    assert_int_equal(io->rename(io, DISK_DIR, "a", "b"), 0);
    leaves(&disk, "a", "-ABC");
    leaves(&disk, "b", "-ABC");

    assert_int_equal(io->fsync(io, fd), 0);
    leaves(&disk, "a", "-C");

    assert_int_equal(io->fsync(io, DISK_DIR), 0);
    leaves(&disk, "a", "-");
    leaves(&disk, "b", "C");

    assert_int_equal(io->ftruncate(io, fd, 0), 0);
    leaves(&disk, "b", "C ");

    assert_int_equal(io->fsync(io, fd), 0);
    assert_int_equal(io->fallocate(io, fd, 0, 2 * DISK_SECTOR), 0);
    overwrite(&disk, fd, 'D');
    assert_int_equal(io->fdatasync(io, fd), 0);
    assert_int_equal(io->unlink(io, DISK_DIR, "b"), 0);
    leaves(&disk, "b", "-D");

    assert_int_equal(io->fsync(io, DISK_DIR), 0);
    leaves(&disk, "b", "-");

    assert_int_equal(io->close(io, fd), 0);
    disk_clear(&disk);
}


static int
teardown(void **ctx)
{
    unsigned  i;

    (void) ctx;

    if (now) {
        now = 0;
        last_words();
    }

    if (getenv("KIT_IMAGES") == NULL && getenv("KIT_SEED") == NULL) {
        return 0;
    }

    (void) printf("%u images of %u trees: %u sync=always, %u interval, %u "
                  "off; %u lost something, %u kept more than was promised, %u "
                  "were cut in recovery\n"
                  "%u recoveries, %u operations (%u refused, %u reserves, %u "
                  "clears, %u groups, %u large), %u commits inside %u "
                  "snapshots, %u segments recycled, %u backups and %u cut "
                  "short\n"
                  "%u conditions were true, %u false, %u "
                  "before that; %u versions of lost writes; %u watches go "
                  "on, %u could not\ncuts before",
                  totals.images,
                  totals.trees, totals.mode[0], totals.mode[1],
                  totals.mode[2], totals.lossy, totals.more, totals.in_recovery,
                  totals.lives, totals.operations, totals.refused,
                  totals.reserves, totals.clears, totals.groups, totals.large,
                  totals.inside,
                  totals.snapshots, totals.recycled, totals.backups,
                  totals.cut_short, totals.met, totals.unmet,
                  totals.early, totals.lost, totals.resumed, totals.gone);

    for (i = 0; i < DISK_KINDS; i++) {
        static const char *const  names[] = {
            "write", "resize", "sync", "create", "rename", "unlink",
            "sync of names"
        };

        (void) printf(" %s %u", names[i], totals.kind[i]);
    }

    (void) printf("\n");

    return 0;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_disk),
        cmocka_unit_test_teardown(test_power_cuts, teardown)
    };

    kit_typed = KV_META_TYPE;

    (void) signal(SIGABRT, on_signal);
    (void) signal(SIGTERM, on_signal);

#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(last_words);
#endif

    kv_poison_alone = true;
    region = mmap(NULL, REGION, PROT_READ|PROT_WRITE,
                  MAP_PRIVATE|MAP_ANONYMOUS, -1, 0);

    if (region == MAP_FAILED) {
        return 1;
    }

    return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}
