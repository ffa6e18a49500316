
/*
 * The keys of a directory; see kv_tool_keys.h.
 */


#include <stdlib.h>

#include "tool/kv_tool_keys.h"


#define KV_TOOL_CHUNK    (1u << 20)       /* bytes of keys allocated at once */
#define KV_TOOL_CELLS    (1u << 16)       /* the fewest cells that are sorted */

/* bits of a place that say where in a file; those above say in which */
#define KV_TOOL_OFFSET   40


/* A record, with its key behind it. */

typedef struct {
    uint64_t  place;
    uint64_t  expires;
    uint32_t  value_len;
    uint16_t  key_len;
    uint8_t   op;
    uint8_t   meta_len;
    char      key[];                 /* and its metadata */
} kv_tool_record_t;


/* The key's first bytes, as a number, decide most comparisons by themselves. */

typedef struct {
    uint64_t           head;
    kv_tool_record_t  *rec;
} kv_tool_cell_t;


typedef struct kv_tool_chunk_s  kv_tool_chunk_t;

struct kv_tool_chunk_s {
    kv_tool_chunk_t  *next;
    size_t            used;
    _Alignas(8) char  data[KV_TOOL_CHUNK];
};


struct kv_tool_keys_s {
    kv_tool_cell_t   *cell;
    size_t            n;
    size_t            max;
    size_t            limit;              /* sort once there are as many */
    uint32_t          files;
    kv_tool_chunk_t  *chunks;             /* the first one is being filled */
};


static kv_rc_t kv_tool_keys_grow(kv_tool_keys_t *keys);
static kv_rc_t kv_tool_keys_settle(kv_tool_keys_t *keys);
static kv_tool_record_t *kv_tool_keys_last(const kv_tool_cell_t *cell,
    size_t n);
static bool kv_tool_keys_same(const kv_tool_cell_t *one,
    const kv_tool_cell_t *two);
static kv_rc_t kv_tool_keys_move(kv_tool_keys_t *keys);
static void *kv_tool_keys_alloc(kv_tool_keys_t *keys, size_t size);
static void kv_tool_keys_free(kv_tool_chunk_t *chunk);
static int kv_tool_keys_compare(const void *one, const void *two);


kv_tool_keys_t *
kv_tool_keys_create(void)
{
    kv_tool_keys_t  *keys;

    keys = calloc(1, sizeof(kv_tool_keys_t));

    if (keys) {
        kv_tool_keys_reset(keys);
    }

    return keys;
}


void
kv_tool_keys_destroy(kv_tool_keys_t *keys)
{
    if (keys) {
        kv_tool_keys_free(keys->chunks);
        free(keys->cell);
        free(keys);
    }
}


void
kv_tool_keys_reset(kv_tool_keys_t *keys)
{
    kv_tool_keys_free(keys->chunks);

    keys->chunks = NULL;
    keys->n = 0;
    keys->limit = KV_TOOL_CELLS;
    keys->files = 0;
}


uint32_t
kv_tool_keys_next_file(kv_tool_keys_t *keys)
{
    return keys->files++;
}


kv_rc_t
kv_tool_keys_add(kv_tool_keys_t *keys, const kv_record_t *rec)
{
    size_t             i;
    uint64_t           head;
    kv_tool_cell_t    *cell;
    kv_tool_record_t  *copy;

    assert(keys->files > 0);

    if (rec->place >> KV_TOOL_OFFSET
        || (uint64_t) keys->files >> (64 - KV_TOOL_OFFSET))
    {
        return KV_OVERFLOW;
    }

    if (rec->op == KV_OP_CLEAR) {
        kv_tool_keys_free(keys->chunks);
        keys->chunks = NULL;
        keys->n = 0;
        return KV_OK;
    }

    if (keys->n == keys->limit && kv_tool_keys_settle(keys) != KV_OK) {
        return KV_NO_MEMORY;
    }

    if (keys->n == keys->max && kv_tool_keys_grow(keys) != KV_OK) {
        return KV_NO_MEMORY;
    }

    copy = kv_tool_keys_alloc(keys, sizeof(*copy) + rec->key_len
                                    + rec->meta_len);

    if (copy == NULL) {
        return KV_NO_MEMORY;
    }

    copy->place = (uint64_t) (keys->files - 1) << KV_TOOL_OFFSET | rec->place;
    copy->expires = rec->expires;
    copy->value_len = rec->value_len;
    copy->key_len = rec->key_len;
    copy->op = (uint8_t) rec->op;
    copy->meta_len = rec->meta_len;
    memcpy(copy->key, rec->key, rec->key_len);

    if (rec->meta_len) {
        memcpy(copy->key + rec->key_len, rec->meta, rec->meta_len);
    }

    for (i = 0, head = 0; i < sizeof(head); i++) {
        head = head << 8 | (i < rec->key_len ? (uint8_t) copy->key[i] : 0);
    }

    cell = &keys->cell[keys->n++];
    cell->head = head;
    cell->rec = copy;

    return KV_OK;
}


static kv_rc_t
kv_tool_keys_grow(kv_tool_keys_t *keys)
{
    size_t           max;
    kv_tool_cell_t  *cell;

    max = keys->max ? keys->max + keys->max / 2 : KV_TOOL_CELLS;
    cell = realloc(keys->cell, max * sizeof(kv_tool_cell_t));

    if (cell == NULL) {
        return KV_NO_MEMORY;
    }

    keys->cell = cell;
    keys->max = max;

    return KV_OK;
}


kv_rc_t
kv_tool_keys_finish(kv_tool_keys_t *keys, size_t *n)
{
    kv_rc_t  rc;

    rc = kv_tool_keys_settle(keys);
    *n = keys->n;

    return rc;
}


/*
 * Leaves one record of each key that has a value, and none of the others, and
 * gives back the memory of those that are gone.
 */

static kv_rc_t
kv_tool_keys_settle(kv_tool_keys_t *keys)
{
    size_t             i, k, n;
    kv_tool_cell_t    *cell;
    kv_tool_record_t  *rec;

    cell = keys->cell;

    if (keys->n) {
        qsort(cell, keys->n, sizeof(kv_tool_cell_t), kv_tool_keys_compare);
    }

    for (i = 0, n = 0; i < keys->n; i = k) {

        for (k = i + 1; k < keys->n; k++) {
            if (!kv_tool_keys_same(&cell[i], &cell[k])) {
                break;
            }
        }

        rec = kv_tool_keys_last(&cell[i], k - i);

        if (rec) {
            cell[n].head = cell[i].head;
            cell[n++].rec = rec;
        }
    }

    i = keys->n;
    keys->n = n;
    keys->limit = kv_max(2 * n, (size_t) KV_TOOL_CELLS);

    return i > n ? kv_tool_keys_move(keys) : KV_OK;
}


/*
 * What is left of the records of one key, in the order of their places: the
 * last put, with the expiry that it was given since; NULL if it was deleted.
 */

static kv_tool_record_t *
kv_tool_keys_last(const kv_tool_cell_t *cell, size_t n)
{
    size_t             i;
    kv_tool_record_t  *last;

    last = NULL;

    for (i = 0; i < n; i++) {

        switch (cell[i].rec->op) {

        case KV_OP_PUT:
            last = cell[i].rec;
            break;

        case KV_OP_TOUCH:
            if (last) {
                last->expires = cell[i].rec->expires;
            }

            break;

        default:
            last = NULL;
            break;
        }
    }

    return last;
}


static bool
kv_tool_keys_same(const kv_tool_cell_t *one, const kv_tool_cell_t *two)
{
    return one->head == two->head && one->rec->key_len == two->rec->key_len
           && memcmp(one->rec->key, two->rec->key, one->rec->key_len) == 0;
}


static kv_rc_t
kv_tool_keys_move(kv_tool_keys_t *keys)
{
    size_t             i, size;
    kv_tool_chunk_t   *old;
    kv_tool_record_t  *copy;

    old = keys->chunks;
    keys->chunks = NULL;

    for (i = 0; i < keys->n; i++) {
        size = sizeof(kv_tool_record_t) + keys->cell[i].rec->key_len
               + keys->cell[i].rec->meta_len;
        copy = kv_tool_keys_alloc(keys, size);

        if (copy == NULL) {
            kv_tool_keys_free(old);
            return KV_NO_MEMORY;
        }

        memcpy(copy, keys->cell[i].rec, size);
        keys->cell[i].rec = copy;
    }

    kv_tool_keys_free(old);

    return KV_OK;
}


static void *
kv_tool_keys_alloc(kv_tool_keys_t *keys, size_t size)
{
    void             *p;
    kv_tool_chunk_t  *chunk;

    size = kv_align(size, (size_t) 8);
    chunk = keys->chunks;

    assert(size <= KV_TOOL_CHUNK);

    if (chunk == NULL || size > KV_TOOL_CHUNK - chunk->used) {
        chunk = malloc(sizeof(kv_tool_chunk_t));

        if (chunk == NULL) {
            return NULL;
        }

        chunk->next = keys->chunks;
        chunk->used = 0;
        keys->chunks = chunk;
    }

    p = chunk->data + chunk->used;
    chunk->used += size;

    return p;
}


static void
kv_tool_keys_free(kv_tool_chunk_t *chunk)
{
    kv_tool_chunk_t  *next;

    for ( /* void */ ; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
}


static int
kv_tool_keys_compare(const void *one, const void *two)
{
    int                      rc;
    const kv_tool_cell_t    *a = one;
    const kv_tool_cell_t    *b = two;

    if (a->head != b->head) {
        return a->head < b->head ? -1 : 1;
    }

    rc = memcmp(a->rec->key, b->rec->key,
                kv_min(a->rec->key_len, b->rec->key_len));

    if (rc != 0) {
        return rc;
    }

    if (a->rec->key_len != b->rec->key_len) {
        return a->rec->key_len < b->rec->key_len ? -1 : 1;
    }

    return a->rec->place < b->rec->place ? -1 : a->rec->place > b->rec->place;
}


void
kv_tool_keys_get(const kv_tool_keys_t *keys, size_t i, kv_tool_key_t *key)
{
    const kv_tool_record_t  *rec;

    assert(i < keys->n);

    rec = keys->cell[i].rec;

    key->key = rec->key;
    key->key_len = rec->key_len;
    key->meta = rec->key + rec->key_len;
    key->meta_len = rec->meta_len;
    key->value_len = rec->value_len;
    key->expires = rec->expires;
    key->file = (uint32_t) (rec->place >> KV_TOOL_OFFSET);
    key->offset = rec->place & ((UINT64_C(1) << KV_TOOL_OFFSET) - 1);
}
