
/*
 * Files that are missing, empty, swapped, too long or have parts of others in
 * them, and several damages at once: the store is whole, a prefix, or refused.
 */

/* long */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdlib.h>

#include "damage_rig.h"


const char *__asan_default_options(void);


/* Freed memory is held back, so every page of it is a new one: not for long. */

const char *
__asan_default_options(void)
{
    return "quarantine_size_mb=8";
}


/* Any of the files are missing, others empty. */

static void
test_missing(void **state)
{
    unsigned  set, left, sets, i;

    (void) state;

    damage_make(STOPPED);
    damage_unshare();

    for (sets = 1, i = 0; i < dir.nfiles; i++) {
        sets *= 3;
    }

    for (set = 0; set < sets; set++) {

        damage_reset();

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
        damage_recover(ANY, NULL, 0);
    }

    damage_reset();
    damage_drop();
    damage_sum_up("missing");
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
    unsigned   i, k, n, round;

    (void) state;

    damage_make(STOPPED);
    damage_unshare();

    for (i = 0; i < dir.nfiles; i++) {
        for (k = 0; k < dir.nfiles; k++) {

            for (round = 0; round < 2 && i != k; round++) {
                damage_reset();
                put_in(i, &before.file[k]);

                if (round) {
                    put_in(k, &before.file[i]);
                }

                (void) snprintf(what, sizeof(what), "%s has what %s had%s",
                                dir.file[i].name, dir.file[k].name,
                                round ? ", and the other way round" : "");
                damage_recover(ANY, NULL, 0);
            }
        }
    }

    /* by other LSNs, larger and smaller; under a name that is there, too */

    for (i = 0; i < dir.nfiles; i++) {
        for (k = 0; k <= steps + 2; k++) {
            damage_reset();
            f = &dir.file[i];

            (void) snprintf(f->name, sizeof(f->name), f->log
                            ? "log-%016x.kvl" : "snap-%016x.kvs", k);

            for (n = 0; n < dir.nfiles; n++) {
                if (n != i && strcmp(dir.file[n].name, f->name) == 0) {
                    dir.file[n].name[0] = '\0';
                }
            }

            (void) snprintf(what, sizeof(what), "%s is called %s",
                            before.file[i].name, f->name);
            damage_recover(ANY, NULL, 0);
        }
    }

    damage_reset();
    damage_drop();
    damage_sum_up("swapped");
}


/* Files are longer than they were; others are there that no store wrote. */

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

    damage_make(STOPPED);
    damage_unshare();

    for (i = 0; i < dir.nfiles; i++) {
        for (kind = 0; kind < 3; kind++) {
            for (n = 1; n <= 8192; n += n < 80 ? 1 : n) {
                damage_reset();
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
                damage_recover(WHOLE, f->name, 0);

                if (kind == 2 && n == before.file[i].size) {
                    break;
                }
            }
        }
    }

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        for (k = 0; k <= before.nfiles; k++) {
            damage_reset();
            f = &dir.file[dir.nfiles++];
            *f = before.file[k % before.nfiles];
            (void) strcpy(f->name, names[i]);
            f->size = k == before.nfiles ? 0 : f->size;

            (void) snprintf(what, sizeof(what), "%s is there, of %zu bytes "
                            "of %s", f->name, f->size,
                            before.file[k % before.nfiles].name);
            damage_recover(ANY, NULL, 0);
        }
    }

    damage_reset();
    damage_drop();
    damage_sum_up("added");
}


/* Damages `n` bytes at one place, as a disk does rather than a bit. */

static void
damage_area(file_t *f, size_t pos, size_t n)
{
    size_t         i;
    const file_t  *from;

    n = kv_min(n, f->size - pos);

    switch (damage_rnd(4)) {

    case 0:
        memset(f->data + pos, 0, n);
        break;

    case 1:
        memset(f->data + pos, 0xff, n);
        break;

    case 2:
        for (i = 0; i < n; i++) {
            f->data[pos + i] = (uint8_t) damage_rnd(256);
        }

        break;

    default:
        from = &before.file[damage_rnd(before.nfiles)];
        i = damage_rnd((uint32_t) from->size) & ~7u;
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
    unsigned   round, end, damages;

    (void) state;

    for (end = STOPPED; end <= IN_FLIGHT; end++) {
        used = damage_seed;
        damage_make(end);
        damage_seed = used;
        damage_unshare();

        for (round = 0; round < 8000; round++) {
            used = damage_seed;
            damage_reset();

            for (damages = 1 + damage_rnd(4); damages; damages--) {
                f = &dir.file[damage_rnd(dir.nfiles)];
                n = damage_rnd(2) ? 512 : 1 + damage_rnd(80);
                pos = damage_rnd((uint32_t) f->size);
                pos = n == 512 ? pos & ~511u : pos;

                damage_area(f, pos, n);
            }

            (void) snprintf(what, sizeof(what), "%s: areas, KIT_SEED=%" PRIu64,
                            dir.name, used);
            damage_recover(ANY, NULL, 0);
        }

        damage_reset();
        damage_drop();
    }

    damage_sum_up("areas");
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_swapped),
        cmocka_unit_test(test_added),
        cmocka_unit_test(test_areas)
    };

    kit_typed = KV_META_TYPE;
    return cmocka_run_group_tests_name("damage files", tests, damage_setup,
                                       NULL);
}
