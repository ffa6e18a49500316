
/*
 * The directory that is damaged: written by a store, taken as it is, copied for
 * each damage and put back to what it was.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/kv_crc32c.h"
#include "damage_rig.h"


step_t    step[OPS + 1];
state_t   model[OPS + 1];
unsigned  steps;
dir_t     before;
dir_t     dir;
uint64_t  damage_seed = 88172645463325252ull;


uint32_t
damage_rnd(uint32_t n)
{
    damage_seed ^= damage_seed << 13;
    damage_seed ^= damage_seed >> 7;
    damage_seed ^= damage_seed << 17;

    return (uint32_t) (damage_seed >> 16) % n;
}


kv_rc_t
damage_begin(const step_t *s, uint32_t version, kv_op_t **op)
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


void
damage_apply(state_t *s, const step_t *st, uint32_t version)
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
        s->code = damage_rnd(5) ? KV_OP_PUT : KV_OP_DELETE;
        s->id = damage_rnd(IDS);
        s->len = 8 + damage_rnd(48);

        if (steps == 18) {
            s->code = KV_OP_CLEAR;
        }

        model[steps] = model[steps - 1];
        damage_apply(&model[steps], s, steps);

        assert_int_equal(damage_begin(s, steps, &op[i]), KV_OK);
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
        batch(1 + damage_rnd(3));
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


void
damage_start(void)
{
    if (solo_start(&solo) != KV_OK) {
        fail_msg("%s", solo.err.text);
    }
}


void
damage_snapshot(void)
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

    d->synced = 0;

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
        p->entry = h.type != KV_ENTRY_NONE;

        d->n = kv_max(d->n, h.first_lsn + h.count - 1);
        d->w = kv_max(d->w, h.durable_lsn);
        d->synced = kv_max(d->synced, h.durable_end);
        d->marked = h.count == 0 && !p->entry;
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
            before.synced = SIZE_MAX;
        }
    }

    dir = before;
}


void
damage_make(end_t end)
{
    char  closed[KV_NAME_MAX];

    static const char *const  names[] = { "stopped", "closed", "killed",
                                          "in flight" };

    solo_init(&solo, 2 << 20);

    steps = 0;
    damage_seed = 88172645463325252ull;
    memset(&model[0], 0, sizeof(state_t));

    damage_start();
    batches(3);
    damage_snapshot();
    batches(5);
    cut(true, 0);

    damage_start();
    batches(3);
    damage_snapshot();
    batches(3);

    /* killed: its last batch has no witness but the next segment */

    cut(false, 0);

    solo.conf.sync = end == IN_FLIGHT ? KV_SYNC_OFF : KV_SYNC_ALWAYS;

    damage_start();
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


void
damage_unshare(void)
{
    unsigned  i;

    dir = before;

    for (i = 0; i < dir.nfiles; i++) {
        dir.file[i].data = malloc(dir.file[i].size + 8192);
        assert_non_null(dir.file[i].data);
        memcpy(dir.file[i].data, before.file[i].data, dir.file[i].size);
    }
}


void
damage_reset(void)
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


void
damage_drop(void)
{
    unsigned  i;

    for (i = 0; i < before.nfiles; i++) {
        free(dir.file[i].data);
    }

    solo_done(&solo);
}
