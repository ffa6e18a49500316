
/*
 * Keys for which recovery found no memory; see kv_missing.h.
 */


#include <stdlib.h>

#include "store/kv_missing.h"


static uint64_t *kv_missing_find(kv_missing_t *set, uint64_t hash);


bool
kv_missing_set(kv_missing_t *set, uint64_t hash, bool missing)
{
    size_t         i;
    uint64_t      *cell;
    kv_missing_t   more;

    hash |= 2;                       /* never an empty cell's value */

    if (missing && set->used * 2 >= set->size) {
        more = *set;
        more.size = set->size ? set->size * 2 : 1024;
        more.cell = calloc(more.size, sizeof(uint64_t));

        if (more.cell == NULL) {
            return false;
        }

        for (i = 0; i < set->size; i++) {
            if (set->cell[i]) {
                *kv_missing_find(&more, set->cell[i]) = set->cell[i];
            }
        }

        free(set->cell);
        *set = more;
    }

    cell = kv_missing_find(set, hash);

    if (*cell == 0) {

        if (!missing) {
            return true;
        }

        set->used++;
        *cell = hash & ~UINT64_C(1);
    }

    if ((*cell & 1) != missing) {
        *cell ^= 1;
        set->missing += missing ? 1 : (size_t) -1;
    }

    return true;
}


bool
kv_missing_has(kv_missing_t *set, uint64_t hash)
{
    return *kv_missing_find(set, hash | 2) & 1;
}


/* The hash's cell, or the empty one where it would be. */

static uint64_t *
kv_missing_find(kv_missing_t *set, uint64_t hash)
{
    size_t  i;

    for (i = hash >> 1; /* void */ ; i++) {
        i &= set->size - 1;

        if (set->cell[i] == 0 || (set->cell[i] | 1) == (hash | 1)) {
            return &set->cell[i];
        }
    }
}
