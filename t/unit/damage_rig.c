
/*
 * One recovery of a damaged directory: what it must give, what it may take, and
 * that the way out of a refusal is one.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "damage_rig.h"


#define MEMORY   ((size_t) 512 << 10)  /* above what the directory has */
#define SECONDS  2                   /* for one recovery */


char    what[256];
sum_t   sum;

static size_t  live, most;           /* what a recovery takes */


extern int __sanitizer_install_malloc_and_free_hooks(
    void (*)(const volatile void *, size_t), void (*)(const volatile void *))
    __attribute__((weak));
extern void __sanitizer_set_death_callback(void (*)(void))
    __attribute__((weak));


static void
allocated(const volatile void *p, size_t n)
{
    (void) p;

    live += n;
    most = kv_max(most, n);
}


static void
freed(const volatile void *p)
{
    (void) p;
}


/* Of a crash, too, it is to be known what caused it. */

static void
last_words(void)
{
    (void) !write(STDERR_FILENO, what, strlen(what));
    (void) !write(STDERR_FILENO, "\n", 1);
}


static void
last_signal(int signo)
{
    last_words();
    (void) signal(signo, SIG_DFL);
    (void) raise(signo);
}


int
damage_setup(void **state)
{
    (void) state;

    if (__sanitizer_install_malloc_and_free_hooks) {
        (void) __sanitizer_install_malloc_and_free_hooks(allocated, freed);
    }

    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(last_words);
    }

    (void) signal(SIGABRT, last_signal);
    (void) signal(SIGPROF, last_signal);

    if (getenv("KIT_SEED")) {
        damage_seed = strtoull(getenv("KIT_SEED"), NULL, 10);
    }

    return 0;
}


void
damage_load(void)
{
    unsigned  i;

    ram_clear(&solo.ram);

    for (i = 0; i < dir.nfiles; i++) {
        if (dir.file[i].name[0]) {
            ram_borrow(&solo.ram, dir.file[i].name, dir.file[i].data,
                       dir.file[i].size);
        }
    }
}


void
damage_check_state(const state_t *s, uint64_t k)
{
    kv_rc_t     rc;
    uint32_t    id, version, len, keys;
    kv_zone_t  *zone;

    zone = solo.host.store->zone;

    for (keys = 0, id = 0; id < IDS; id++) {

        rc = kit_get(&solo.host, id, &version, &len);

        if (s->version[id] == 0) {
            if (rc != KV_NOT_FOUND) {
                fail_msg("%s: S(%" PRIu64 ") has no key %u, but rc is %d",
                         what, k, id, rc);
            }

            continue;
        }

        keys++;

        if (rc != KV_OK || version != s->version[id] || len != s->len[id]) {
            fail_msg("%s: S(%" PRIu64 ") has version %u of key %u, but rc is "
                     "%d, version %u, length %u", what, k, s->version[id], id,
                     rc, rc ? 0 : version, rc ? 0 : len);
        }
    }

    if (atomic_load(&zone->map.keys) != keys) {
        fail_msg("%s: %" PRIu64 " keys, not %u", what,
                 atomic_load(&zone->map.keys), keys);
    }
}


/* W of a damaged directory. */

static uint64_t
witnessed(void)
{
    unsigned        i;
    uint64_t        w;
    const file_t   *f, *b;
    const place_t  *p;

    w = 0;

    for (i = 0; i < before.nfiles; i++) {
        f = &dir.file[i];
        b = &before.file[i];

        if (!b->log && !b->snapshot && strcmp(f->name, b->name) == 0
            && f->size == b->size && memcmp(f->data, b->data, f->size) == 0)
        {
            w = before.n;
        }

        if (!b->snapshot || strcmp(f->name, b->name) != 0) {
            continue;
        }

        w = kv_max(w, b->lsn);

        if (f->size == b->size && memcmp(f->data, b->data, f->size) == 0) {
            w = kv_max(w, b->end_lsn);
        }
    }

    for (i = 0; i < before.nplaces; i++) {
        p = &before.place[i];
        f = &dir.file[p->file];
        b = &before.file[p->file];

        if (strcmp(f->name, b->name) == 0
            && f->size >= p->offset + p->len
            && memcmp(f->data, b->data, KV_SEGMENT_HEADER) == 0
            && memcmp(f->data + p->offset, b->data + p->offset, p->len) == 0)
        {
            w = kv_max(w, p->durable);
        }
    }

    return w;
}


/*
 * A batch in the place of the one that is gone, as large as it was: if others
 * lie behind, they fit.
 */

static void
fill_gap(uint64_t k)
{
    state_t    s;
    kv_rc_t    rc[8];
    kv_op_t   *op[8];
    unsigned   i, n;

    for (i = 0; i < before.nplaces; i++) {
        if (before.place[i].first == k + 1 && before.place[i].count) {
            break;
        }
    }

    if (i == before.nplaces) {
        return;
    }

    n = before.place[i].count;
    s = model[k];

    for (i = 0; i < n; i++) {
        assert_int_equal(damage_begin(&step[k + 1 + i], 2000 + i, &op[i]),
                         KV_OK);
        damage_apply(&s, &step[k + 1 + i], 2000 + i);
    }

    solo_commit(&solo, op, n, rc);
    solo_stop(&solo, false);

    if (rc[0] != KV_OK || solo_start(&solo) != KV_OK) {
        fail_msg("%s: the gap is not filled: %d %s", what, rc[0],
                 solo.err.text);
    }

    damage_check_state(&s, k);

    /* and back */

    solo_stop(&solo, false);
    damage_load();
    assert_int_equal(solo_start(&solo), KV_OK);
}


/* What was recovered takes writes, and they are there after a restart. */

static void
goes_on(uint64_t k)
{
    kv_rc_t   rc;
    kv_op_t  *op;
    state_t   s;

    static const step_t  more[] = {
        { KV_OP_PUT, 3, 40 }, { KV_OP_DELETE, 5, 0 }, { KV_OP_PUT, 7, 2000 }
    };

    s = model[k];

    for (unsigned i = 0; i < 3; i++) {
        if (damage_begin(&more[i], 1000 + i, &op) != KV_OK) {
            fail_msg("%s: no write can begin", what);
        }

        solo_commit(&solo, &op, 1, &rc);

        if (rc != KV_OK) {
            fail_msg("%s: a write is refused: %d", what, rc);
        }

        damage_apply(&s, &more[i], 1000 + i);
    }

    damage_check_state(&s, k);

    for (unsigned i = 0; i < 2; i++) {
        solo_stop(&solo, i == 0);

        if (solo_start(&solo) != KV_OK) {
            fail_msg("%s: no restart after %" PRIu64 ": %s", what, k,
                     solo.err.text);
        }

        damage_check_state(&s, k);
    }

    sum.written++;
}


/* Does what the refusal says.  Returns the k of S(k) that it promises. */

static uint64_t
take_way_out(const char *text)
{
    const char  *p;

    p = strstr(text, "from LSN ");

    if (p == NULL) {
        fail_msg("%s: the text does not say what is given up: %s", what, text);
    }

    if (!solo_way_out(&solo)) {
        fail_msg("%s: the way out is none: %s", what, text);
    }

    return strtoull(p + 9, NULL, 10) - 1;
}


/*
 * From a refusal to a store that starts, which may take some ways: each gives
 * up something that the one before has not.  `exactly` that is there then
 * which the text says; files under wrong names may hold more.
 */

static void
find_way_out(bool exactly)
{
    kv_rc_t   rc;
    uint64_t  k, promised, given;
    unsigned  ways;

    rc = KV_DAMAGED;
    promised = ANYWHERE;

    for (ways = 0; rc == KV_DAMAGED; ways++) {

        if (ways == 2 * FILES) {
            fail_msg("%s: the way out leads nowhere: %s", what,
                     solo.err.text);
        }

        given = take_way_out(solo.err.text);
        rc = solo_start(&solo);

        /* as the first text said, or a reader could not rely on it */

        if (exactly && promised != ANYWHERE && given != promised) {
            fail_msg("%s: LSN %" PRIu64 " was promised, then %" PRIu64 ": %s",
                     what, promised, given, solo.err.text);
        }

        promised = given;
    }

    sum.ways += ways;

    if (rc != KV_OK) {
        fail_msg("%s: the way out ends with %d: %s", what, rc, solo.err.text);
    }

    k = atomic_load(&solo.host.store->zone->wal.next_lsn) - 1;

    if (k > before.n || (exactly && k != promised)) {
        fail_msg("%s: the way out promised LSN %" PRIu64 " and led to %"
                 PRIu64, what, promised, k);
    }

    damage_check_state(&model[k], k);
    solo_stop(&solo, false);
}


/* The text of a refusal; `name` and `offset` of a single damage, or NULL. */

static void
check_refusal(const char *name, uint64_t offset)
{
    char         at[64];
    bool         single;
    unsigned     i;
    const char  *text;
    static char  last[sizeof(solo.err.text)];

    text = solo.err.text;
    single = name != NULL;
    sum.refused++;

    if (solo.ram.changes) {
        fail_msg("%s: refused, but the directory was changed", what);
    }

    for (i = 0; name == NULL && i < dir.nfiles; i++) {
        if (dir.file[i].name[0] && strstr(text, dir.file[i].name)) {
            name = dir.file[i].name;
            offset = ANYWHERE;
        }
    }

    if (name == NULL && strstr(text, "no log-*.kvl is there")) {
        name = "log-*.kvl";
        offset = ANYWHERE;
    }

    if (name == NULL || strstr(text, name) == NULL) {
        fail_msg("%s: the text does not name %s: %s", what,
                 name ? name : "any file", text);
    }

    (void) snprintf(at, sizeof(at), "offset %" PRIu64 ":", offset);

    if (offset != ANYWHERE && strstr(text, at) == NULL) {
        fail_msg("%s: the text does not say \"%s\": %s", what, at, text);
    }

    if (strstr(text, "restore the data directory from a copy, or") == NULL
        || (strstr(text, "move ") == NULL
            && strstr(text, "truncate ") == NULL)
        || strstr(text, "delete ") != NULL)
    {
        fail_msg("%s: the text names no way out: %s", what, text);
    }

    /* the same way for all bytes of a batch */

    if (strcmp(last, text) != 0) {
        (void) strcpy(last, text);
        find_way_out(single);
    }
}


/* Nanoseconds of processor time: others use the machine, too. */

static uint64_t
cpu_ns(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


void
damage_watch(unsigned seconds)
{
    struct itimerval  timer;

    memset(&timer, 0, sizeof(timer));
    timer.it_value.tv_sec = seconds;

    (void) setitimer(ITIMER_PROF, &timer, NULL);
}


static void
bounded(uint64_t started)
{
    uint64_t  ns;

    ns = cpu_ns() - started;

    sum.memory = kv_max(sum.memory, live);
    sum.ns = kv_max(sum.ns, ns);

    if (solo.ram.read > 4 * dir.bytes + 65536) {
        fail_msg("%s: it read %" PRIu64 " bytes of files of %zu", what,
                 solo.ram.read, dir.bytes);
    }

    if (live > MEMORY + 4 * dir.bytes) {
        fail_msg("%s: it took %zu bytes of memory for files of %zu, %zu at "
                 "once", what, live, dir.bytes, most);
    }

    if (ns > SECONDS * UINT64_C(1000000000)) {
        fail_msg("%s: it took %" PRIu64 " ms", what, ns / 1000000);
    }
}


void
damage_recover(outcome_t wanted, const char *name, uint64_t offset)
{
    kv_rc_t   rc;
    uint64_t  k, w, started;

    damage_load();

    memset(solo.ram.calls, 0, sizeof(solo.ram.calls));
    solo.ram.read = 0;
    solo.ram.changes = 0;
    live = 0;
    most = 0;

    if (sum.tried % 1024 == 0) {
        damage_watch(60);
    }

    started = cpu_ns();

    rc = solo_start(&solo);

    bounded(started);
    sum.tried++;

    if (rc == KV_DAMAGED) {

        if (wanted == WHOLE || wanted == PREFIX) {
            fail_msg("%s: refused: %s", what, solo.err.text);
        }

        check_refusal(wanted == REFUSED ? name : NULL, offset);
        return;
    }

    if (rc != KV_OK) {
        fail_msg("%s: rc %d: %s", what, rc, solo.err.text);
    }

    k = atomic_load(&solo.host.store->zone->wal.next_lsn) - 1;
    w = witnessed();

    if (wanted == REFUSED || k < w || k > before.n
        || (wanted == WHOLE && k != before.n)
        || (wanted == PREFIX && k != offset))
    {
        fail_msg("%s: started with LSN %" PRIu64 " of %" PRIu64 ", of which %"
                 PRIu64 " are witnessed", what, k, before.n, w);
    }

    damage_check_state(&model[k], k);

    sum.whole += k == before.n;
    sum.prefix += k != before.n;

    if (k != before.n) {
        fill_gap(k);
    }

    if (k != before.n || sum.tried % 16 == 0) {
        goes_on(k);
    }

    solo_stop(&solo, false);
}


bool
damage_there(const char *name)
{
    return ram_find(&solo.ram, name) != NULL;
}


void
damage_write_one(uint32_t id, uint32_t version)
{
    kv_rc_t      rc;
    kv_op_t     *op;
    const step_t  put = { KV_OP_PUT, id, 24 };

    assert_int_equal(damage_begin(&put, version, &op), KV_OK);
    solo_commit(&solo, &op, 1, &rc);
    assert_int_equal(rc, KV_OK);
}


void
damage_sum_up(const char *of)
{
    damage_watch(0);

    if (getenv("KIT_SUM")) {
        (void) fprintf(stderr, "%s: %" PRIu64 " damages: %" PRIu64 " whole, %"
                       PRIu64 " a prefix, %" PRIu64 " refused; %" PRIu64
                       " ways out taken, %" PRIu64 " gone on with; at most "
                       "%zu bytes, %" PRIu64 " us\n", of, sum.tried, sum.whole,
                       sum.prefix, sum.refused, sum.ways, sum.written,
                       sum.memory, sum.ns / 1000);
    }

    memset(&sum, 0, sizeof(sum));
}
