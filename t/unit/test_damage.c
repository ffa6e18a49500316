
/*
 * Damage: every single-byte change and every length of every file of a small
 * data directory, files that are missing, swapped, empty, too long or have
 * parts of others in them, and several damages at once; the whole store is
 * recovered from each.
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
 *     and whoever takes that way gets S(k) of the k that it names, and never
 *     one that gives up more than the text said.
 *
 * Of a single damage it is known which.  Damage to a snapshot or to a file
 * that recovery has no need of costs nothing: S(n).  Damage to a log segment
 * that is needed (its header, a batch, its length) is refused, with the very
 * offset of the header or batch, but for what has no bearing: marks with
 * nothing to witness, the space behind the end, bytes that the file has too
 * many, S(n), or too few, if a mark or the next segment says that none of them
 * was used.  Only batches above W
 * may go, of a log without a mark at its end, as a killed process leaves it:
 * S(k) with k just before the damaged one, as after a power cut; and what lies
 * behind the gap does not come to life when others of the same size fill it.
 *
 * Each recovery is bounded: what it reads and allocates is compared with the
 * size of the directory, and its processor time is measured.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/kv_crc32c.h"
#include "ram.h"


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

#define MEMORY       ((size_t) 512 << 10)  /* above what the directory has */
#define SECONDS      2               /* for one recovery */


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
    KILLED,                          /* nobody could set it */
    IN_FLIGHT                        /* nor had anything been synced */
} end_t;


static solo_t      solo;
static step_t      step[OPS + 1];    /* of each LSN */
static state_t     model[OPS + 1];   /* S(k) */
static unsigned    steps;
static dir_t       before;           /* undamaged */
static dir_t       dir;
static uint64_t    seed = 88172645463325252ull;
static char        what[256];        /* is being done to it */

static struct {
    uint64_t  tried;
    uint64_t  whole;                 /* S(n) */
    uint64_t  prefix;
    uint64_t  refused;
    uint64_t  ways;                  /* ways out taken */
    uint64_t  written;               /* gone on with */
    size_t    memory;                /* the most that one took */
    uint64_t  ns;
} sum;


static uint32_t
rnd(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (uint32_t) (seed >> 16) % n;
}


/* ---- what a recovery takes */


static size_t  live, most;


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


extern int __sanitizer_install_malloc_and_free_hooks(
    void (*)(const volatile void *, size_t), void (*)(const volatile void *))
    __attribute__((weak));
extern void __sanitizer_set_death_callback(void (*)(void))
    __attribute__((weak));
const char *__asan_default_options(void);


/* Freed memory is held back, so every page of it is a new one: not for long. */

const char *
__asan_default_options(void)
{
    return "quarantine_size_mb=8";
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


static int
setup_all(void **state)
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
        seed = strtoull(getenv("KIT_SEED"), NULL, 10);
    }

    return 0;
}


/* ---- writing the directory */


static kv_rc_t
begin(const step_t *s, uint32_t version, kv_op_t **op)
{
    char     key[32];
    size_t   n;

    n = kit_key(s->id, key);

    switch (s->code) {

    case KV_OP_PUT:
        return kit_begin_put(&solo.host, s->id, version, s->len, op);

    case KV_OP_DELETE:
        return kv_store_delete(solo.host.store, key, (uint16_t) n, op);

    default:
        return kv_store_clear(solo.host.store, op);
    }
}


static void
apply(state_t *s, const step_t *st, uint32_t version)
{
    if (st->code == KV_OP_CLEAR) {
        memset(s, 0, sizeof(state_t));
        return;
    }

    s->version[st->id] = st->code == KV_OP_PUT ? version : 0;
    s->len[st->id] = st->len;
}


/* So many operations, in one batch; the version is the LSN. */

static void
batch(unsigned n)
{
    step_t    *s;
    kv_rc_t    rc[8];
    kv_op_t   *op[8];
    unsigned   i;

    for (i = 0; i < n; i++) {
        steps++;
        assert_true(steps <= OPS);

        s = &step[steps];
        s->code = rnd(5) ? KV_OP_PUT : KV_OP_DELETE;
        s->id = rnd(IDS);
        s->len = 8 + rnd(48);

        if (steps == 18) {
            s->code = KV_OP_CLEAR;
        }

        model[steps] = model[steps - 1];
        apply(&model[steps], s, steps);

        assert_int_equal(begin(s, steps, &op[i]), KV_OK);
    }

    solo_commit(&solo, op, n, rc);

    for (i = 0; i < n; i++) {
        assert_int_equal(rc[i], KV_OK);
    }
}


static void
batches(unsigned n)
{
    while (n--) {
        batch(1 + rnd(3));
    }
}


/*
 * Gives the current segment the size that it would have had if so little had
 * been configured: its last `tail` bytes will not be used.
 */

static void
cut(bool clean, size_t tail)
{
    char                  name[KV_NAME_MAX];
    uint8_t               zeroes[4];
    uint64_t              lsn, end;
    ram_file_t           *f;
    kv_segment_header_t   h;

    lsn = solo.host.store->zone->wal.segment_lsn;
    end = solo.host.store->zone->wal.offset;

    solo_stop(&solo, clean);

    (void) snprintf(name, sizeof(name), "log-%016" PRIx64 ".kvl", lsn);

    f = ram_find(&solo.ram, name);
    assert_non_null(f);
    ram_resize(f, end + sizeof(kv_batch_header_t) + tail);

    memcpy(&h, f->data, sizeof(h));
    memset(zeroes, 0, sizeof(zeroes));

    h.size = f->size;
    h.crc = 0;
    memcpy(f->data, &h, sizeof(h));
    h.crc = kv_crc32c(0, f->data, KV_SEGMENT_HEADER);
    memcpy(f->data, &h, sizeof(h));
}


static void
start(void)
{
    if (solo_start(&solo) != KV_OK) {
        fail_msg("%s", solo.err.text);
    }
}


static void
snapshot(void)
{
    solo_background(&solo, KV_REQUEST_SNAPSHOT);
}


/* Where the batches are; the files are good. */

static void
find_places(dir_t *d, unsigned file)
{
    file_t             *f;
    size_t              offset;
    place_t            *p;
    uint64_t            salt;
    kv_batch_header_t   h;

    f = &d->file[file];
    memcpy(&salt, f->data + offsetof(kv_segment_header_t, salt), sizeof(salt));

    for (offset = KV_SEGMENT_HEADER; offset + sizeof(h) <= f->size;
         offset += sizeof(h) + h.len)
    {
        memcpy(&h, f->data + offset, sizeof(h));

        if (h.magic != KV_BATCH_MAGIC || h.salt != salt) {
            break;
        }

        assert_true(d->nplaces < BATCHES);
        p = &d->place[d->nplaces++];

        p->file = file;
        p->offset = offset;
        p->len = sizeof(h) + h.len;
        p->first = h.first_lsn;
        p->count = h.count;
        p->durable = h.durable_lsn;

        d->n = kv_max(d->n, h.first_lsn + h.count - 1);
        d->w = kv_max(d->w, h.durable_lsn);
        d->marked = h.count == 0;
    }
}


static int
by_name(const void *one, const void *two)
{
    return strcmp(((const file_t *) one)->name, ((const file_t *) two)->name);
}


/* Takes the stopped store's directory as `before`. */

static void
take(const char *name)
{
    unsigned              i;
    file_t               *f;
    uint64_t              newest;
    ram_file_t           *r;
    kv_snapshot_footer_t  footer;

    for (i = 0; i < before.nfiles; i++) {
        free(before.file[i].data);
    }

    memset(&before, 0, sizeof(before));
    before.name = name;

    for (i = 0; i < RAM_FILES; i++) {
        r = &solo.ram.file[i];

        if (r->name[0] == '\0') {
            continue;
        }

        assert_true(before.nfiles < FILES);
        f = &before.file[before.nfiles++];

        (void) strcpy(f->name, r->name);
        f->size = r->size;
        f->data = malloc(f->size);
        memcpy(f->data, r->data, f->size);

        f->log = strncmp(f->name, "log-", 4) == 0
                 && strcmp(f->name + 20, ".kvl") == 0;
        f->snapshot = strncmp(f->name, "snap-", 5) == 0;
        before.bytes += f->size;
    }

    qsort(before.file, before.nfiles, sizeof(file_t), by_name);

    for (newest = 0, i = 0; i < before.nfiles; i++) {
        f = &before.file[i];

        if (f->snapshot) {
            f->lsn = strtoull(f->name + 5, NULL, 16);
            memcpy(&footer, f->data + f->size - sizeof(footer),
                   sizeof(footer));
            f->end_lsn = footer.end_lsn;
            newest = f->lsn;
        }
    }

    /* from the one on that holds what comes after the newest snapshot */

    for (i = before.nfiles; i--; /* void */ ) {
        f = &before.file[i];

        if (f->log) {
            f->lsn = strtoull(f->name + 4, NULL, 16);
            f->needed = true;

            if (f->lsn <= newest + 1) {
                break;
            }
        }
    }

    for (i = 0; i < before.nfiles; i++) {
        if (before.file[i].log) {
            find_places(&before, i);

        } else if (!before.file[i].snapshot) {
            before.w = before.n;
        }
    }

    dir = before;
}


/*
 * Two snapshots, three segments: one of before the older snapshot, both of
 * which nobody needs while the newer one is good.
 */

static void
make(end_t end)
{
    char  closed[KV_NAME_MAX];

    static const char *const  names[] = { "stopped", "closed", "killed",
                                          "in flight" };

    solo_init(&solo, 2 << 20);

    steps = 0;
    seed = 88172645463325252ull;
    memset(&model[0], 0, sizeof(state_t));

    start();
    batches(3);
    snapshot();
    batches(5);
    cut(true, 0);

    start();
    batches(3);
    snapshot();
    batches(3);

    /* killed: its last batch has no witness but the next segment */

    cut(false, 0);

    solo.conf.sync = end == IN_FLIGHT ? KV_SYNC_OFF : KV_SYNC_ALWAYS;

    start();
    batches(5);
    cut(end <= CLOSED, TAIL);

    solo.conf.sync = KV_SYNC_ALWAYS;

    if (end == STOPPED) {
        (void) snprintf(closed, sizeof(closed), "log-%016x.closed", steps);
        assert_int_equal(solo.ram.io.unlink(&solo.ram.io, 3, closed), 0);
    }

    take(names[end]);

    assert_int_equal(before.n, steps);
    assert_int_equal(before.marked, end <= CLOSED);
    assert_int_equal(before.nfiles, end == CLOSED ? 6 : 5);
}


/* ---- one recovery */


static void
load(void)
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


static void
check_state(const state_t *s, uint64_t k)
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
        assert_int_equal(begin(&step[k + 1 + i], 2000 + i, &op[i]), KV_OK);
        apply(&s, &step[k + 1 + i], 2000 + i);
    }

    solo_commit(&solo, op, n, rc);
    solo_stop(&solo, false);

    if (rc[0] != KV_OK || solo_start(&solo) != KV_OK) {
        fail_msg("%s: the gap is not filled: %d %s", what, rc[0],
                 solo.err.text);
    }

    check_state(&s, k);

    /* and back */

    solo_stop(&solo, false);
    load();
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
        if (begin(&more[i], 1000 + i, &op) != KV_OK) {
            fail_msg("%s: no write can begin", what);
        }

        solo_commit(&solo, &op, 1, &rc);

        if (rc != KV_OK) {
            fail_msg("%s: a write is refused: %d", what, rc);
        }

        apply(&s, &more[i], 1000 + i);
    }

    check_state(&s, k);

    for (unsigned i = 0; i < 2; i++) {
        solo_stop(&solo, i == 0);

        if (solo_start(&solo) != KV_OK) {
            fail_msg("%s: no restart after %" PRIu64 ": %s", what, k,
                     solo.err.text);
        }

        check_state(&s, k);
    }

    sum.written++;
}


/*
 * Does what the refusal says: moves files away and truncates.  Returns the k
 * of S(k) that it promises.
 */

static uint64_t
take_way_out(const char *text)
{
    char        name[KV_NAME_MAX], refused[KV_NAME_MAX];
    bool        all, after, itself, newer, snaps;
    unsigned    i;
    uint64_t    k, size, lsn, than;
    ram_file_t  *f;
    const char  *p;

    refused[0] = '\0';
    (void) sscanf(text, "%63[^:]", refused);

    p = strstr(text, "from LSN ");

    if (p == NULL) {
        fail_msg("%s: nobody says what is given up: %s", what, text);
    }

    k = strtoull(p + 9, NULL, 10) - 1;

    all = strstr(text, "move every log-*") != NULL;
    itself = strstr(text, "move this file") != NULL;
    after = strstr(text, "all segments after it") != NULL;
    snaps = strstr(text, "every snap-*.kvs") != NULL;
    p = strstr(text, "every snap-*.kvs newer than snap-");
    newer = p != NULL;
    than = newer ? strtoull(p + 33, NULL, 16) : 0;

    for (i = 0; i < RAM_FILES; i++) {
        f = &solo.ram.file[i];

        /* the note of the log's end, where it is named to be moved */

        p = strstr(text, ", move ");

        if (p && f->name[0] && strstr(f->name, ".closed")
            && strstr(p, f->name))
        {
            (void) solo.ram.io.unlink(&solo.ram.io, 3, f->name);
            continue;
        }

        if (strncmp(f->name, "log-", 4) == 0
            && (all || strstr(f->name, ".kvl"))
            && (all || (after && strcmp(f->name, refused) > 0)
                || (itself && strcmp(f->name, refused) == 0)))
        {
            (void) solo.ram.io.unlink(&solo.ram.io, 3, f->name);
        }

        if (snaps && sscanf(f->name, "snap-%16" SCNx64 ".kvs", &lsn) == 1
            && (!newer || lsn > than))
        {
            (void) solo.ram.io.unlink(&solo.ram.io, 3, f->name);
        }
    }

    for (p = text; (p = strstr(p, "truncate -s ")) != NULL; p++) {
        if (sscanf(p + 12, "%" SCNu64 " %63[^ \"]", &size, name) == 2) {
            f = ram_find(&solo.ram, name);

            if (f == NULL) {
                fail_msg("%s: the way out is of no file: %s", what, text);
            }

            ram_resize(f, size);
        }
    }

    return k;
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

        /* what the first text said, or nobody may rely on it */

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

    check_state(&model[k], k);
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


/* One that does not end is not waited for. */

static void
watch(unsigned seconds)
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


/*
 * Recovers `dir`.  `name` and `offset` are what a refusal must say, if it is
 * not ANY.
 */

static void
recover(outcome_t wanted, const char *name, uint64_t offset)
{
    kv_rc_t   rc;
    uint64_t  k, w, started;

    load();

    memset(solo.ram.calls, 0, sizeof(solo.ram.calls));
    solo.ram.read = 0;
    solo.ram.changes = 0;
    live = 0;
    most = 0;

    if (sum.tried % 1024 == 0) {
        watch(60);
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

    check_state(&model[k], k);

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


/* ---- damages */


/* What a change of this one byte must lead to; the offset to be named. */

static outcome_t
outcome(unsigned file, size_t pos, uint64_t *offset)
{
    unsigned        i;
    const file_t   *f;
    const place_t  *p;

    f = &before.file[file];
    *offset = 0;

    if (!f->needed) {
        return WHOLE;
    }

    if (pos < KV_SEGMENT_HEADER) {
        return REFUSED;
    }

    for (i = 0; i < before.nplaces; i++) {
        p = &before.place[i];

        if (p->file != file || pos < p->offset || pos >= p->offset + p->len
            || p->count == 0)
        {
            continue;
        }

        if (p->first > before.w) {
            *offset = p->first - 1;
            return PREFIX;
        }

        *offset = p->offset;
        return REFUSED;
    }

    return WHOLE;
}


/* Every byte of a file: each bit of it flipped, or two; all set, none set. */

static void
change_bytes(unsigned file, bool all)
{
    file_t     *f;
    size_t      pos;
    uint8_t     was, value;
    uint64_t    offset;
    unsigned    i;
    outcome_t   wanted;

    f = &dir.file[file];

    for (pos = 0; pos < f->size; pos++) {
        was = f->data[pos];
        wanted = outcome(file, pos, &offset);

        for (i = 0; i < 10; i += all || i != 0 ? 1 : 7) {
            value = i < 8 ? was ^ (uint8_t) (1u << i) : i == 8 ? 0 : 0xff;

            if (value == was
                || (all && i >= 8 && __builtin_popcount(value ^ was) == 1))
            {
                continue;            /* no damage, or tried before */
            }

            (void) snprintf(what, sizeof(what), "%s: %s: byte %zu from %02x "
                            "to %02x", dir.name, f->name, pos, was, value);

            f->data[pos] = value;
            recover(wanted, f->name, offset);
        }

        f->data[pos] = was;
    }
}


/* `dir` gets bytes of its own. */

static void
unshare(void)
{
    unsigned  i;

    dir = before;

    for (i = 0; i < dir.nfiles; i++) {
        dir.file[i].data = malloc(dir.file[i].size + 8192);
        assert_non_null(dir.file[i].data);
        memcpy(dir.file[i].data, before.file[i].data, dir.file[i].size);
    }
}


static void
reset(void)
{
    unsigned  i;
    uint8_t  *data;

    for (i = 0; i < before.nfiles; i++) {
        data = dir.file[i].data;
        dir.file[i] = before.file[i];
        dir.file[i].data = data;
        memcpy(data, before.file[i].data, before.file[i].size);
    }

    dir.nfiles = before.nfiles;
}


static void
drop(void)
{
    unsigned  i;

    for (i = 0; i < before.nfiles; i++) {
        free(dir.file[i].data);
    }

    solo_done(&solo);
}


static bool
there(const char *name)
{
    return ram_find(&solo.ram, name) != NULL;
}


static void
write_one(uint32_t id, uint32_t version)
{
    kv_rc_t      rc;
    kv_op_t     *op;
    const step_t  put = { KV_OP_PUT, id, 24 };

    assert_int_equal(begin(&put, version, &op), KV_OK);
    solo_commit(&solo, &op, 1, &rc);
    assert_int_equal(rc, KV_OK);
}


static void
sum_up(const char *of)
{
    watch(0);

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


/* Each byte changed, with how many values, and each length below its own. */

typedef enum {
    NONE = 0,
    SOME,
    ALL
} values_t;


static uint64_t
used(unsigned file)
{
    unsigned  i;
    uint64_t  end;

    end = KV_SEGMENT_HEADER;

    for (i = 0; i < before.nplaces; i++) {
        if (before.place[i].file == file
            && (before.place[i].count
                || (file == LAST_LOG && strcmp(before.name, "closed") != 0)))
        {
            end = before.place[i].offset + before.place[i].len;
        }
    }

    return end;
}


static void
damage_all(values_t bytes)
{
    char        name[KV_NAME_MAX];
    size_t      size;
    file_t     *f;
    unsigned    i;
    uint64_t    at;
    outcome_t   wanted;

    for (i = 0; i < dir.nfiles; i++) {
        f = &dir.file[i];

        if (f->name[0] == '\0') {
            continue;
        }

        if (bytes) {
            change_bytes(i, bytes == ALL);
        }

        (void) strcpy(name, f->name);
        size = f->size;

        while (f->size--) {
            wanted = before.file[i].needed && f->size < used(i) ? REFUSED
                                                                : WHOLE;
            at = f->size < sizeof(kv_segment_header_t) ? ANYWHERE : f->size;
            (void) snprintf(what, sizeof(what), "%s: %s: cut from %zu to %zu",
                            dir.name, name, size, f->size);
            recover(wanted, name, at);
        }

        f->size = size;
    }
}


static void
test_stopped(void **state)
{
    (void) state;

    make(STOPPED);
    unshare();

    (void) snprintf(what, sizeof(what), "undamaged");
    recover(WHOLE, NULL, 0);

    damage_all(ALL);

    drop();
    sum_up("stopped");
}


/* Nobody could set the mark: the last batches have no witness. */

static void
test_killed(void **state)
{
    end_t  end;

    (void) state;

    for (end = KILLED; end <= IN_FLIGHT; end++) {
        make(end);
        unshare();

        (void) snprintf(what, sizeof(what), "undamaged");
        recover(WHOLE, NULL, 0);

        change_bytes(LAST_LOG, end == KILLED);
        assert_true(sum.prefix > (end == KILLED ? 500 : 2000));

        drop();
        sum_up(before.name);
    }
}


/*
 * The log was closed: nothing of its end can go without a word, not even the
 * last batches and the mark together.
 */

static void
test_closed(void **state)
{
    size_t     n, end;
    file_t    *f;
    uint64_t   k;
    unsigned   i;

    (void) state;

    make(CLOSED);
    unshare();

    (void) snprintf(what, sizeof(what), "closed");
    recover(WHOLE, NULL, 0);

    damage_all(SOME);

    f = &dir.file[LAST_LOG];
    end = before.place[before.nplaces - 1].offset
          + before.place[before.nplaces - 1].len;

    for (n = 1; n <= end - KV_SEGMENT_HEADER; n++) {
        reset();
        memset(f->data + end - n, 0, n);
        (void) snprintf(what, sizeof(what), "closed, the last %zu bytes are "
                        "zeroes", n);

        /* the first batch that is another than it was */

        k = 0;

        for (i = 0; i + 1 < before.nplaces; i++) {
            k = before.place[i].offset;

            if (before.place[i].file == LAST_LOG
                && memcmp(f->data + k, before.file[LAST_LOG].data + k,
                          before.place[i].len) != 0)
            {
                break;
            }
        }

        recover(before.place[i].count ? REFUSED : WHOLE, f->name, k);
    }

    reset();
    drop();
    sum_up("closed");
}


/* It cannot be deleted at start: it never speaks for what comes after it. */

static void
test_closed_stays(void **state)
{
    char          name[KV_NAME_MAX];
    ram_file_t   *r;
    ram_fault_t  *f;

    (void) state;

    make(CLOSED);
    (void) snprintf(what, sizeof(what), "closed stays");

    f = &solo.ram.fault[0];
    f->call = RAM_UNLINK;
    f->error = EIO;
    f->nth = solo.ram.calls[RAM_UNLINK] + 1;
    f->times = 1000;

    start();
    assert_true(solo.warnings > 0);
    f->nth = 0;
    check_state(&model[steps], steps);
    write_one(1, 7000);
    (void) snprintf(name, sizeof(name), "log-%016x.kvl", steps + 1);
    assert_true(there(name));
    solo_stop(&solo, false);

    /* the write's own segment ends early: the old note does not excuse it */

    r = ram_find(&solo.ram, name);
    ram_resize(r, KV_SEGMENT_HEADER);
    assert_int_equal(solo_start(&solo), KV_DAMAGED);

    solo_done(&solo);
}


static void
need_all_logs(void)
{
    unsigned  i;

    for (i = 0; i < before.nfiles; i++) {
        before.file[i].needed = before.file[i].log;
    }
}


/* The newest snapshot is damaged, and then something else. */

static void
test_older_snapshot(void **state)
{
    (void) state;

    make(STOPPED);
    before.name = "newest snapshot damaged";
    before.file[NEW_SNAPSHOT].data[100] ^= 1;
    need_all_logs();
    unshare();

    (void) snprintf(what, sizeof(what), "%s", dir.name);
    recover(WHOLE, NULL, 0);

    damage_all(SOME);

    drop();
    sum_up("older snapshot");
}


/* There is no snapshot, so all comes from the log. */

static void
test_log_alone(void **state)
{
    (void) state;

    make(STOPPED);
    before.name = "no snapshot";
    before.file[OLD_SNAPSHOT].name[0] = '\0';
    before.file[NEW_SNAPSHOT].name[0] = '\0';
    need_all_logs();
    unshare();

    (void) snprintf(what, sizeof(what), "%s", dir.name);
    recover(WHOLE, NULL, 0);

    damage_all(NONE);

    drop();
    sum_up("log alone");
}


/* Any of the files are missing, others empty. */

static void
test_missing(void **state)
{
    unsigned  set, left, sets, i;

    (void) state;

    make(STOPPED);
    unshare();

    for (sets = 1, i = 0; i < dir.nfiles; i++) {
        sets *= 3;
    }

    for (set = 0; set < sets; set++) {

        reset();

        for (left = set, i = 0; i < dir.nfiles; left /= 3, i++) {
            if (left % 3) {
                dir.file[i].size = 0;
            }

            if (left % 3 == 1) {
                dir.file[i].name[0] = '\0';
            }
        }

        (void) snprintf(what, sizeof(what), "missing and empty files, set %u",
                        set);
        recover(ANY, NULL, 0);
    }

    reset();
    drop();
    sum_up("missing");
}


static void
put_in(unsigned to, const file_t *from)
{
    dir.file[to].size = from->size;
    memcpy(dir.file[to].data, from->data, from->size);
}


/* Files have each other's contents, or each other's names. */

static void
test_swapped(void **state)
{
    file_t    *f;
    unsigned   i, k, turn;

    (void) state;

    make(STOPPED);
    unshare();

    for (i = 0; i < dir.nfiles; i++) {
        for (k = 0; k < dir.nfiles; k++) {

            for (turn = 0; turn < 2 && i != k; turn++) {
                reset();
                put_in(i, &before.file[k]);

                if (turn) {
                    put_in(k, &before.file[i]);
                }

                (void) snprintf(what, sizeof(what), "%s has what %s had%s",
                                dir.file[i].name, dir.file[k].name,
                                turn ? ", and the other way round" : "");
                recover(ANY, NULL, 0);
            }
        }
    }

    /* by other LSNs, larger and smaller; under a name that is there, too */

    for (i = 0; i < dir.nfiles; i++) {
        for (k = 0; k <= steps + 2; k++) {
            reset();
            f = &dir.file[i];

            (void) snprintf(f->name, sizeof(f->name), f->log
                            ? "log-%016x.kvl" : "snap-%016x.kvs", k);

            for (turn = 0; turn < dir.nfiles; turn++) {
                if (turn != i
                    && strcmp(dir.file[turn].name, f->name) == 0)
                {
                    dir.file[turn].name[0] = '\0';
                }
            }

            (void) snprintf(what, sizeof(what), "%s is called %s",
                            before.file[i].name, f->name);
            recover(ANY, NULL, 0);
        }
    }

    reset();
    drop();
    sum_up("swapped");
}


/* Files are longer than they were; others are there that nobody wrote. */

static void
test_added(void **state)
{
    file_t    *f;
    size_t     n;
    unsigned   i, k, kind;

    static const char *const  names[] = {
        "log-0000000000000002.kvl", "log-0000000000000000.kvl",
        "log-ffffffffffffffff.kvl", "log-00000000000000FF.kvl",
        "log-0000000000000001.kvl~", "log-0000000000000001.tmp",
        "log-0000000000000030.tmp", "snap-0000000000000002.kvs",
        "snap-ffffffffffffffff.kvs", "snap-0000000000000000.kvs",
        "snap-0000000000000003.tmp", "spare-0.kvl", "spare-1.tmp",
        "spare-18446744073709551615.kvl", "kv.lock", "core"
    };

    (void) state;

    make(STOPPED);
    unshare();

    for (i = 0; i < dir.nfiles; i++) {
        for (kind = 0; kind < 3; kind++) {
            for (n = 1; n <= 8192; n += n < 80 ? 1 : n) {
                reset();
                f = &dir.file[i];
                n = kind == 2 ? kv_min(n, f->size) : n;

                if (kind == 2) {
                    memcpy(f->data + f->size, f->data, n);

                } else {
                    memset(f->data + f->size, kind ? 0xff : 0, n);
                }

                (void) snprintf(what, sizeof(what), "%s: %zu bytes behind "
                                "its end, %u", f->name, n, kind);
                f->size += n;
                recover(WHOLE, f->name, 0);

                if (kind == 2 && n == before.file[i].size) {
                    break;
                }
            }
        }
    }

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        for (k = 0; k <= before.nfiles; k++) {
            reset();
            f = &dir.file[dir.nfiles++];
            *f = before.file[k % before.nfiles];
            (void) strcpy(f->name, names[i]);
            f->size = k == before.nfiles ? 0 : f->size;

            (void) snprintf(what, sizeof(what), "%s is there, of %zu bytes "
                            "of %s", f->name, f->size,
                            before.file[k % before.nfiles].name);
            recover(ANY, NULL, 0);
        }
    }

    reset();
    drop();
    sum_up("added");
}


/* Damages `n` bytes at one place, as a disk does rather than a bit. */

static void
damage_area(file_t *f, size_t pos, size_t n)
{
    size_t         i;
    const file_t  *from;

    n = kv_min(n, f->size - pos);

    switch (rnd(4)) {

    case 0:
        memset(f->data + pos, 0, n);
        break;

    case 1:
        memset(f->data + pos, 0xff, n);
        break;

    case 2:
        for (i = 0; i < n; i++) {
            f->data[pos + i] = (uint8_t) rnd(256);
        }

        break;

    default:
        from = &before.file[rnd(before.nfiles)];
        i = rnd((uint32_t) from->size) & ~7u;
        memcpy(f->data + pos, from->data + i, kv_min(n, from->size - i));
        break;
    }
}


/* Sectors of other places, zeroes, noise; one to four of them at once. */

static void
test_areas(void **state)
{
    file_t    *f;
    size_t     pos, n;
    uint64_t   used;
    unsigned   turn, end, damages;

    (void) state;

    for (end = STOPPED; end <= IN_FLIGHT; end++) {
        used = seed;
        make(end);
        seed = used;
        unshare();

        for (turn = 0; turn < 8000; turn++) {
            used = seed;
            reset();

            for (damages = 1 + rnd(4); damages; damages--) {
                f = &dir.file[rnd(dir.nfiles)];
                n = rnd(2) ? 512 : 1 + rnd(80);
                pos = rnd((uint32_t) f->size);
                pos = n == 512 ? pos & ~511u : pos;

                damage_area(f, pos, n);
            }

            (void) snprintf(what, sizeof(what), "%s: areas, KIT_SEED=%" PRIu64,
                            dir.name, used);
            recover(ANY, NULL, 0);
        }

        reset();
        drop();
    }

    sum_up("areas");
}


/* ---- what becomes of what is damaged */


static const char *
aside(unsigned file)
{
    static char  name[KV_NAME_MAX + 16];

    (void) snprintf(name, sizeof(name), "%s.damaged", before.file[file].name);

    return name;
}


static unsigned
snapshots(void)
{
    unsigned  i, n;

    for (i = 0, n = 0; i < RAM_FILES; i++) {
        n += strncmp(solo.ram.file[i].name, "snap-", 5) == 0
             && strcmp(solo.ram.file[i].name + 21, ".kvs") == 0;
    }

    return n;
}


static void
flip(const char *name, size_t pos)
{
    ram_file_t  *f;

    f = ram_find(&solo.ram, name);
    assert_non_null(f);
    ram_resize(f, f->size + 1);          /* of its own */
    ram_resize(f, f->size - 1);
    f->data[pos] ^= 1;
    f->disk[pos] ^= 1;
}


/* A snapshot found damaged does not count as one of the two. */

static void
test_put_aside(void **state)
{
    char      newest[KV_NAME_MAX];
    uint64_t  lsn;

    (void) state;

    make(STOPPED);
    (void) snprintf(what, sizeof(what), "put aside");

    flip(before.file[NEW_SNAPSHOT].name, 100);
    start();
    check_state(&model[steps], steps);
    assert_true(solo.warnings > 0);
    assert_false(there(before.file[NEW_SNAPSHOT].name));
    assert_true(there(aside(NEW_SNAPSHOT)));

    /* the next start has nothing to complain of */

    solo_stop(&solo, true);
    start();
    assert_int_equal(solo.warnings, 0);

    /* the next snapshot leaves the good one, and its log */

    write_one(1, 5000);
    snapshot();
    assert_true(there(before.file[OLD_SNAPSHOT].name));
    assert_int_equal(snapshots(), 2);

    lsn = atomic_load(&solo.host.store->zone->snapshot_lsn);
    (void) snprintf(newest, sizeof(newest), "snap-%016" PRIx64 ".kvs", lsn);
    solo_stop(&solo, true);
    flip(newest, 100);

    start();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn) - 1,
                     lsn);
    assert_int_equal(snapshots(), 1);

    /* more of them than are kept */

    for (unsigned i = 0; i < 3; i++) {
        write_one(2, 5001 + i);
        snapshot();
        lsn = atomic_load(&solo.host.store->zone->snapshot_lsn);
        (void) snprintf(newest, sizeof(newest), "snap-%016" PRIx64 ".kvs",
                        lsn);
        solo_stop(&solo, true);
        flip(newest, 100);
        start();
    }

    assert_false(there(aside(NEW_SNAPSHOT)));
    assert_int_equal(snapshots(), 1);

    solo_done(&solo);
}


/* The disk is full: what could take the newest's place goes if that is good. */

static void
test_full_disk(void **state)
{
    ram_fault_t  *f;

    (void) state;

    make(STOPPED);
    (void) snprintf(what, sizeof(what), "full disk");
    solo.conf.snapshot = 1 << 30;
    start();
    write_one(1, 5000);
    snapshot();
    write_one(1, 5001);
    snapshot();
    assert_int_equal(snapshots(), 2);

    /* rotten since it was written; no other can be made */

    (void) snprintf(before.file[NEW_SNAPSHOT].name, KV_NAME_MAX,
                    "snap-%016" PRIx64 ".kvs",
                    atomic_load(&solo.host.store->zone->snapshot_lsn));
    flip(before.file[NEW_SNAPSHOT].name, 100);

    f = &solo.ram.fault[0];
    f->call = RAM_WRITE;
    f->error = ENOSPC;
    f->nth = solo.ram.calls[RAM_WRITE] + 1;
    f->times = 1000;

    atomic_store(&solo.host.store->zone->writes, KV_WRITES_FULL);
    solo_background(&solo, KV_REQUEST_FREE_DISK);
    assert_true(f->hits > 0);
    assert_int_equal(snapshots(), 1);

    f->nth = 0;
    solo_stop(&solo, false);
    start();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn) - 1,
                     steps + 2);

    /* room: a new one, read back, and what is of no use to anybody goes */

    atomic_store(&solo.host.store->zone->writes, KV_WRITES_FULL);
    write_one(1, 5002);
    atomic_store(&solo.host.store->zone->writes, KV_WRITES_FULL);
    solo.host.store->zone->room_ns = 0;
    solo.host.store->zone->hard_ns = 0;
    solo_background(&solo, KV_REQUEST_FREE_DISK);
    assert_int_equal(snapshots(), 1);
    assert_false(there(aside(NEW_SNAPSHOT)));

    solo_stop(&solo, false);
    start();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn) - 1,
                     steps + 3);
    solo_done(&solo);
}


/*
 * There is no room to write the log's end once more: the start serves what it
 * has read, and writes when there is room; by then all is on the disk, even if
 * the sync before had failed, and what the page cache held was never there.
 */

static void
start_full(bool failed)
{
    kv_rc_t        rc;
    kv_op_t       *op;
    uint64_t       n;
    kv_zone_t     *zone;
    ram_fault_t   *f;
    const step_t   put = { KV_OP_PUT, 1, 24 }, gone = { KV_OP_DELETE, 2, 0 };

    make(KILLED);
    (void) snprintf(what, sizeof(what), "start on a full disk, %u", failed);
    solo.conf.snapshot = 1 << 30;
    f = &solo.ram.fault[0];
    n = steps;

    if (failed) {
        start();
        zone = solo.host.store->zone;

        /* into the segment that is there, behind something that is durable */

        do {
            write_one(1, (uint32_t) ++n);
        } while (zone->wal.segment_size - zone->wal.offset < 16384);

        f->call = RAM_FDATASYNC;
        f->error = EIO;
        f->nth = solo.ram.calls[RAM_FDATASYNC] + 1;
        f->times = 1000;

        assert_int_equal(begin(&put, 8000, &op), KV_OK);
        solo_commit(&solo, &op, 1, &rc);
        assert_int_equal(rc, KV_UNAVAILABLE);
        solo_stop(&solo, false);
        n++;
    }

    f->call = RAM_WRITE;
    f->error = ENOSPC;
    f->nth = solo.ram.calls[RAM_WRITE] + 1;
    f->times = 100000;

    start();
    zone = solo.host.store->zone;
    assert_true(f->hits > 0);
    assert_int_equal(kv_state(zone), KV_STATE_DISK_FULL);
    assert_int_equal(atomic_load(&zone->wal.next_lsn), n + 1);
    assert_true(atomic_load(&zone->wal.durable_lsn) < n);

    if (!failed) {
        check_state(&model[steps], steps);
    }

    assert_int_equal(begin(&put, 8001, &op), KV_OK);
    solo_commit(&solo, &op, 1, &rc);
    assert_int_equal(rc, KV_NO_SPACE);
    assert_int_equal(begin(&gone, 0, &op), KV_OK);
    solo_commit(&solo, &op, 1, &rc);
    assert_int_equal(rc, KV_NO_SPACE);
    solo_background(&solo, KV_REQUEST_FREE_DISK | KV_REQUEST_SEGMENT);
    assert_int_equal(kv_state(zone), KV_STATE_DISK_FULL);

    /* room again */

    f->nth = 0;
    zone->room_ns = 0;
    zone->hard_ns = 0;
    solo_background(&solo, KV_REQUEST_FREE_DISK | KV_REQUEST_SEGMENT);
    assert_int_equal(kv_state(zone), KV_STATE_READY);
    assert_int_equal(atomic_load(&zone->wal.durable_lsn), n);
    write_one(1, 8002);
    solo_stop(&solo, false);
    ram_reboot(&solo.ram);

    start();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn), n + 2);
    solo_done(&solo);
}


static void
test_start_full(void **state)
{
    (void) state;

    start_full(false);
    start_full(true);
}


/*
 * Each reading call of a start fails once, in every way that says that a file
 * is bad: the snapshot's costs nothing, the log's is refused, and neither is
 * called damage, for the next start may go well.
 */

static void
test_unreadable(void **state)
{
    kv_rc_t       rc;
    unsigned      i, k, nth, passed;
    ram_fault_t  *f;

    static const ram_call_t  calls[] = { RAM_OPEN, RAM_SIZE, RAM_READ };
    static const int         errors[] = { EIO, EISDIR, ELOOP, EMFILE };

    (void) state;

    make(STOPPED);
    unshare();
    f = &solo.ram.fault[0];

    for (i = 0; i < 3; i++) {
        for (k = 0; k < 4; k++) {

            passed = 0;

            for (nth = 1; /* void */ ; nth++) {
                load();
                memset(solo.ram.calls, 0, sizeof(solo.ram.calls));
                (void) snprintf(what, sizeof(what), "call %u, error %d, %u",
                                calls[i], errors[k], nth);

                f->call = calls[i];
                f->error = errors[k];
                f->nth = nth;
                f->times = 1;
                f->hits = 0;

                rc = solo_start(&solo);
                f->nth = 0;

                if (rc == KV_OK) {
                    check_state(&model[steps], steps);
                    passed += there(aside(NEW_SNAPSHOT));
                    solo_stop(&solo, false);

                } else if (rc == KV_DAMAGED) {
                    fail_msg("%s: %s", what, solo.err.text);
                }

                if (f->hits == 0) {
                    break;
                }

                /* what is no fault of the file must not cost it its name */

                if (rc != KV_OK && errors[k] != EMFILE
                    && strstr(solo.err.text, before.file[NEW_SNAPSHOT].name))
                {
                    fail_msg("%s: %s", what, solo.err.text);
                }

                load();
                rc = solo_start(&solo);
                assert_int_equal(rc, KV_OK);
                solo_stop(&solo, false);
            }

            assert_int_equal(passed > 0, errors[k] != EMFILE);
        }
    }

    drop();
}


/* Each open of a start fails once: nobody takes that for damage. */

static void
alone_fails(int error, uint64_t next)
{
    kv_rc_t       rc;
    unsigned      nth;
    ram_fault_t  *f;

    f = &solo.ram.fault[0];
    f->call = RAM_OPEN;
    f->error = error;
    f->times = 1;

    for (nth = 1; nth == 1 || f->hits; nth++) {
        f->nth = solo.ram.calls[RAM_OPEN] + nth;
        f->hits = 0;

        rc = solo_start(&solo);
        f->nth = 0;

        if (rc == KV_DAMAGED) {
            fail_msg("%s: error %d, open %u: %s", what, error, nth,
                     solo.err.text);
        }

        if (rc == KV_OK) {
            assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn),
                             next);
            solo_stop(&solo, false);
        }
    }
}


/*
 * The snapshot's walk has seen what the log then lost: what is in it can still
 * be had, alone, and the log goes on behind what was seen.
 */

static void
alone(bool missing)
{
    char                   name[KV_NAME_MAX];
    kv_rc_t                rc;
    uint32_t               crc;
    uint64_t               salt, s, e;
    ram_file_t            *f;
    kv_block_header_t      h;
    kv_snapshot_footer_t   footer;

    static const int       errors[] = { EMFILE, EACCES, EIO };

    make(STOPPED);
    (void) snprintf(what, sizeof(what), "alone, missing %u", missing);

    s = before.file[NEW_SNAPSHOT].lsn;
    e = steps;

    f = ram_find(&solo.ram, before.file[NEW_SNAPSHOT].name);
    ram_resize(f, f->size + 1);
    ram_resize(f, f->size - 1);
    memcpy(&salt, f->data + 24, sizeof(salt));
    memcpy(&footer, f->data + f->size - sizeof(footer), sizeof(footer));
    memcpy(&h, f->data + f->size - sizeof(footer) - sizeof(h), sizeof(h));
    footer.end_lsn = e;
    crc = kv_crc32c(0, &salt, sizeof(salt));
    crc = kv_crc32c(crc, (uint8_t *) &h + 8, sizeof(h) - 8);
    h.crc = kv_crc32c(crc, &footer, sizeof(footer));
    memcpy(f->data + f->size - sizeof(footer), &footer, sizeof(footer));
    memcpy(f->data + f->size - sizeof(footer) - sizeof(h), &h, sizeof(h));

    if (missing) {
        (void) solo.ram.io.unlink(&solo.ram.io, 3, before.file[LAST_LOG].name);

    } else {
        flip(before.file[LAST_LOG].name, 8);
    }

    assert_int_equal(solo_start(&solo), KV_DAMAGED);
    (void) snprintf(name, sizeof(name), "snap-%016" PRIx64 ".alone", s);
    assert_null(strstr(solo.err.text, "delete"));
    assert_non_null(strstr(solo.err.text, "move every log-* away"));
    assert_non_null(strstr(solo.err.text, name));

    for (unsigned i = 0; i < before.nfiles; i++) {
        if (before.file[i].log) {
            (void) solo.ram.io.unlink(&solo.ram.io, 3, before.file[i].name);
        }
    }

    /* one half of it is not enough */

    assert_int_equal(solo_start(&solo), KV_DAMAGED);
    assert_non_null(strstr(solo.err.text, "no log-*.kvl is there"));
    assert_non_null(strstr(solo.err.text, name));
    ram_borrow(&solo.ram, name, (const uint8_t *) "", 0);

    for (unsigned i = 0; i < 3; i++) {
        rc = solo_start(&solo);

        if (rc != KV_OK) {
            fail_msg("%s: %s", what, solo.err.text);
        }

        assert_true(solo.warnings > 0);
        assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn),
                         e + 1 + i);

        if (i == 0) {
            check_state(&model[s], s);
        }

        write_one(1, 6000 + i);
        solo_stop(&solo, i == 1);
    }

    for (unsigned k = 0; k < 3; k++) {
        alone_fails(errors[k], e + 4);
    }

    /* it goes with its snapshot */

    start();
    snapshot();
    write_one(1, 6010);
    snapshot();
    assert_false(there(name));
    solo_stop(&solo, true);
    start();
    assert_int_equal(solo.warnings, 0);

    solo_done(&solo);
}


static void
test_alone(void **state)
{
    (void) state;

    alone(false);
    alone(true);
}


/* What was said of a snapshot is not said of another that gets its LSN. */

static void
test_not_alone(void **state)
{
    char  name[KV_NAME_MAX];

    (void) state;

    make(STOPPED);
    (void) snprintf(what, sizeof(what), "not alone");
    start();
    write_one(1, 5000);

    (void) snprintf(name, sizeof(name), "snap-%016" PRIx64 ".alone",
                    atomic_load(&solo.host.store->zone->applied_lsn));
    ram_borrow(&solo.ram, name, (const uint8_t *) "", 0);
    snapshot();

    assert_true(atomic_load(&solo.host.store->zone->snapshots) > 0);
    assert_false(there(name));
    solo_done(&solo);
}


/*
 * A snapshot whose name may not be on the disk takes the place of no other,
 * not even when the disk is full.
 */

static void
test_not_named(void **state)
{
    char          name[KV_NAME_MAX];
    uint64_t      lsn;
    ram_fault_t  *f;

    (void) state;

    make(STOPPED);
    (void) snprintf(what, sizeof(what), "not named");
    solo.conf.snapshot = 1 << 30;
    start();
    write_one(1, 5000);
    lsn = atomic_load(&solo.host.store->zone->applied_lsn);

    f = &solo.ram.fault[0];
    f->call = RAM_FSYNC;
    f->error = EIO;
    f->nth = solo.ram.calls[RAM_FSYNC] + 1;
    f->times = 1;
    snapshot();
    assert_int_equal(f->hits, 1);
    f->nth = 0;

    (void) snprintf(name, sizeof(name), "snap-%016" PRIx64 ".kvs", lsn);
    assert_false(there(name));

    /* now another is due, and no other can be written */

    f->call = RAM_WRITE;
    f->error = ENOSPC;
    f->nth = solo.ram.calls[RAM_WRITE] + 1;
    f->times = 1000;
    atomic_store(&solo.host.store->zone->writes, KV_WRITES_FULL);
    solo_background(&solo, KV_REQUEST_FREE_DISK);
    f->nth = 0;

    assert_int_equal(snapshots(), 1);
    assert_true(there(before.file[NEW_SNAPSHOT].name));
    solo_stop(&solo, false);
    start();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn),
                     lsn + 1);
    solo_done(&solo);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_put_aside),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_start_full),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_not_alone),
        cmocka_unit_test(test_not_named),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_closed),
        cmocka_unit_test(test_closed_stays),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_older_snapshot),
        cmocka_unit_test(test_log_alone),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_swapped),
        cmocka_unit_test(test_added),
        cmocka_unit_test(test_areas)
    };

    cmocka_set_test_filter(getenv("KIT_TEST"));

    return cmocka_run_group_tests_name("damage", tests, setup_all, NULL);
}
