
/*
 * Every single-byte change and every length of every file of a small data
 * directory.  Of a single damage it is known what must come of it (damage_rig.h
 * has the rules): damage to a snapshot or to a file that recovery has no need
 * of costs nothing: S(n).  Damage to a log segment that is needed (its header,
 * a batch, its length) is refused, with the very offset of the header or batch,
 * but for what has no bearing: marks with nothing to witness, the space behind
 * the end, bytes that the file has too many, S(n), or too few, if a mark or the
 * next segment says that none of them was used.  Only batches above W may go,
 * of a log without a mark at its end, as a killed process leaves it: S(k) with
 * k just before the damaged one, as after a power cut; and what lies behind the
 * gap does not come to life when others of the same size fill it.
 */

/* long */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "damage_rig.h"


const char *__asan_default_options(void);


/* Freed memory is held back, so every page of it is a new one: not for long. */

const char *
__asan_default_options(void)
{
    return "quarantine_size_mb=8";
}


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
            || (p->count == 0 && !p->entry))
        {
            continue;
        }

        /* the first one of a replicated log's segment is never torn */

        if (p->first > before.w && file == LAST_LOG
            && p->offset >= before.synced
            && !(p->entry && p->offset == KV_SEGMENT_HEADER))
        {
            *offset = p->first - 1;
            return PREFIX;
        }

        *offset = p->offset;
        return REFUSED;
    }

    return WHOLE;
}


/* The zeroes that fill a segment's header, most of a small directory. */

static bool
padding(const file_t *f, size_t pos)
{
    return f->log && pos >= sizeof(kv_segment_header_t)
           && pos < KV_SEGMENT_HEADER;
}


/*
 * Every byte of a file.  All: each bit of it flipped; all set, none set; of the
 * padding each has one bit flipped.  Else one bit, and all set or none; of the
 * padding, every eighth byte.
 */

static bool
tries(const file_t *f, size_t pos, unsigned i, bool all)
{
    if (padding(f, pos)) {
        return all ? i == pos % 8 : pos % 8 == 0 && i == pos / 8 % 8;
    }

    return all || i == pos % 8 || i == 8 + pos % 2;
}


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

        for (i = 0; i < 10; i++) {
            value = i < 8 ? was ^ (uint8_t) (1u << i) : i == 8 ? 0 : 0xff;

            if (!tries(f, pos, i, all) || value == was
                || (all && i >= 8 && __builtin_popcount(value ^ was) == 1))
            {
                continue;            /* no damage, or tried before */
            }

            (void) snprintf(what, sizeof(what), "%s: %s: byte %zu from %02x "
                            "to %02x", dir.name, f->name, pos, was, value);

            f->data[pos] = value;
            damage_recover(wanted, f->name, offset);
        }

        f->data[pos] = was;
    }
}


/*
 * Each byte changed, with how many values, and each length below its own; but
 * few of those that end in padding, unless all values are tried.
 */

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
            && (before.place[i].count || before.place[i].entry
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

            if (bytes != ALL && f->size % 64 && padding(f, f->size)) {
                continue;
            }

            wanted = before.file[i].needed && f->size < used(i) ? REFUSED
                                                                : WHOLE;
            at = f->size < sizeof(kv_segment_header_t) ? ANYWHERE : f->size;
            (void) snprintf(what, sizeof(what), "%s: %s: cut from %zu to %zu",
                            dir.name, name, size, f->size);
            damage_recover(wanted, name, at);
        }

        f->size = size;
    }
}


static void
test_stopped(void **state)
{
    (void) state;

    damage_make(STOPPED);
    damage_unshare();

    (void) snprintf(what, sizeof(what), "undamaged");
    damage_recover(WHOLE, NULL, 0);

    damage_all(ALL);

    damage_drop();
    damage_sum_up("stopped");
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

    damage_make(CLOSED);
    damage_unshare();

    (void) snprintf(what, sizeof(what), "closed");
    damage_recover(WHOLE, NULL, 0);

    damage_all(SOME);

    f = &dir.file[LAST_LOG];
    end = before.place[before.nplaces - 1].offset
          + before.place[before.nplaces - 1].len;

    for (n = 1; n <= end - KV_SEGMENT_HEADER; n++) {
        damage_reset();
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

        damage_recover(before.place[i].count || before.place[i].entry
                       ? REFUSED : WHOLE, f->name, k);
    }

    damage_reset();
    damage_drop();
    damage_sum_up("closed");
}


/*
 * It cannot be emptied, nor deleted: it never speaks for what comes after, and
 * the
 * operator is told once.
 */

static void
test_closed_stays(void **state)
{
    char          name[KV_NAME_MAX];
    ram_file_t   *r;
    ram_fault_t  *f;

    (void) state;

    damage_make(CLOSED);
    (void) snprintf(what, sizeof(what), "closed stays");

    f = &solo.ram.fault[0];
    f->call = RAM_UNLINK;
    f->error = EIO;
    f->nth = solo.ram.calls[RAM_UNLINK] + 1;
    f->times = 1000;

    f[1] = f[0];
    f[1].call = RAM_TRUNCATE;
    f[1].nth = 1;

    damage_start();
    damage_check_state(&model[steps], steps);
    assert_int_equal(solo.stuck_notes, 0);
    damage_write_one(1, 7000);
    assert_int_equal(solo.stuck_notes, 1);
    damage_write_one(1, 7001);
    assert_int_equal(solo.stuck_notes, 1);
    f[0].nth = 0;
    f[1].nth = 0;
    (void) snprintf(name, sizeof(name), "log-%016x.kvl", steps + 1);
    assert_true(damage_there(name));
    solo_stop(&solo, false);

    /* the write's own segment ends early: the old note does not excuse it */

    r = ram_find(&solo.ram, name);
    ram_resize(r, KV_SEGMENT_HEADER);
    assert_int_equal(solo_start(&solo), KV_DAMAGED);

    solo_done(&solo);
}


/* No process could set the mark: the last batches have no witness. */

static void
test_killed(void **state)
{
    end_t  end;

    (void) state;

    for (end = KILLED; end <= IN_FLIGHT; end++) {
        damage_make(end);
        damage_unshare();

        (void) snprintf(what, sizeof(what), "undamaged");
        damage_recover(WHOLE, NULL, 0);

        change_bytes(LAST_LOG, end == KILLED);
        assert_true(sum.prefix > (end == KILLED ? 500 : 1000));

        damage_drop();
        damage_sum_up(before.name);
    }
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

    damage_make(STOPPED);
    before.name = "newest snapshot damaged";
    before.file[NEW_SNAPSHOT].data[100] ^= 1;
    need_all_logs();
    damage_unshare();

    (void) snprintf(what, sizeof(what), "%s", dir.name);
    damage_recover(WHOLE, NULL, 0);

    damage_all(SOME);

    damage_drop();
    damage_sum_up("older snapshot");
}


/* There is no snapshot, so all comes from the log. */

static void
test_log_alone(void **state)
{
    (void) state;

    damage_make(STOPPED);
    before.name = "no snapshot";
    before.file[OLD_SNAPSHOT].name[0] = '\0';
    before.file[NEW_SNAPSHOT].name[0] = '\0';
    need_all_logs();
    damage_unshare();

    (void) snprintf(what, sizeof(what), "%s", dir.name);
    damage_recover(WHOLE, NULL, 0);

    damage_all(NONE);

    damage_drop();
    damage_sum_up("log alone");
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_closed),
        cmocka_unit_test(test_closed_stays),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_older_snapshot),
        cmocka_unit_test(test_log_alone)
    };

    kit_typed = 9;
    return cmocka_run_group_tests_name("damage bytes", tests, damage_setup,
                                       NULL);
}
