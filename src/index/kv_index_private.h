
/*
 * What the index is made of, for its files: kv_index.c (the writer's changes of
 * one key), kv_index_walk.c (readers), kv_index_change.c (nodes that replace
 * others), kv_index_leaf.c, kv_index_inner.c and kv_index_node.c (what nodes
 * are made of), kv_index_clear.c, kv_index_move.c, kv_index_check.c.
 *
 *
 * Fences
 *
 * A node is responsible for the keys from its low fence on up to, but not
 * including, its high fence: the separators on both sides of it in its parent,
 * or those of its parent.  The first node of a level has no low fence (it is
 * empty), the last no high one.  All strings between two fences begin with what
 * both have in common, so a leaf's prefix fits whatever key comes to it, as
 * long as its prefix is a part of that.  A leaf that becomes responsible for
 * more keys than before is made anew first, if its prefix is too long.
 *
 * A leaf keeps its low fence as it was when the leaf was made.  It may be
 * responsible for more today, because a neighbour was removed, or for less: of
 * one with too many keys to copy at once, the first are moved to a leaf in
 * front of it, and what it still has of them is ignored.
 *
 *
 * Memory order
 *
 * A node is filled before it is published (release, acquire), and but for the
 * following nothing in it changes afterwards: an inner node's children; the
 * bytes of a leaf behind `used`, which are written before `used` is; its links,
 * each of which is written before it is published; and the bit that marks a
 * key as deleted, which is set once and never cleared.  A key that comes back
 * is appended again, after the mark was set: so a reader that has loaded `used`
 * and `links` before it looks at any mark sees a key at most once.
 */


#ifndef KV_INDEX_PRIVATE_H
#define KV_INDEX_PRIVATE_H


#include "index/kv_index.h"


/* inner nodes between the root and a leaf, the root included, at most */
#define KV_INDEX_DEPTH   32

/* bytes from which on a leaf is split, if it has two keys, */
#define KV_LEAF_MAX      1792u

/* and an inner node, if it has four children */
#define KV_INNER_MAX     2048u

/* between two sizes of nodes */
#define KV_NODE_STEP     256u

/* what a node may take at most, and the keys of one that is made at once */
#define KV_NODE_MAX      65535u
#define KV_LEAF_COPY     40000u

/*
 * Free space of a new leaf, beside what its size leaves: of one to which keys
 * come, and of others.  More of it makes new leaves rarer, and keys larger.
 */
#define KV_LEAF_SPACE    256u
#define KV_LEAF_LEAST    48u

/* appended keys that a reader, or the writer, sorts at a time */
#define KV_LEAF_GATHER   128

/*
 * In front of a key in a leaf: one byte with its length and the mark, or three,
 * of which the first says so.
 */
#define KV_KEY_DEAD      0x80u
#define KV_KEY_LONG      0x7fu


struct kv_index_node_s {
    kv_index_node_t           *next;       /* once it has left the tree */
    uint16_t                   level;      /* 0: a leaf */
    uint16_t                   size;       /* bytes of the object */
    uint16_t                   prefix_len;
    uint16_t                   n;          /* children, or the low fence's
                                              bytes */
};


/* A key that found no memory in its leaf. */

struct kv_index_link_s {
    kv_index_link_t           *next;
    unsigned char              key[];      /* as in the leaf */
};


/* `data`: the low fence, the sorted keys, the appended ones, free space. */

typedef struct {
    kv_index_node_t            node;
    uint16_t                   sorted;     /* where the sorted keys end */
    _Atomic uint16_t           used;       /* where the appended ones do */

    /* the writer's */
    uint32_t                   dead:31;    /* bytes of deleted keys */
    uint32_t                   stale:1;    /* it has keys below its fence */

    _Atomic(kv_index_link_t *) links;
    unsigned char              data[];
} kv_leaf_t;

_Static_assert(sizeof(kv_leaf_t) == 32, "header of a leaf");


/*
 * Behind the children: four bytes of each separator behind what all of them
 * have in common, as a number; where each separator ends; the separators.
 */

typedef struct {
    kv_index_node_t            node;
    _Atomic(kv_index_node_t *) child[];
} kv_inner_t;


/*
 * How a leaf is reached; good as long as index->changes stays what it is, but
 * for the leaf: see kv_path_reload().
 */

typedef struct {
    unsigned                   depth;
    uint16_t                   at[KV_INDEX_DEPTH];
    kv_inner_t                *inner[KV_INDEX_DEPTH];
    kv_leaf_t                 *leaf;
} kv_path_t;


/* The live keys of a leaf in order. */

typedef struct {
    const kv_leaf_t           *leaf;
    unsigned                   at;         /* the next sorted one */
    unsigned                   used;
    const kv_index_link_t     *links;
    bool                       more;       /* than `list` has */
    unsigned                   i;
    unsigned                   n;
    uint32_t                   head[KV_LEAF_GATHER];   /* kv_slice_head() */
    const unsigned char       *list[KV_LEAF_GATHER];
} kv_leaf_walk_t;


/* Nodes that were made for a change, and those that it replaces. */

typedef struct {
    unsigned                   nmade;
    unsigned                   ngone;
    kv_index_node_t           *made[2 * KV_INDEX_DEPTH + 4];
    kv_index_node_t           *gone[2 * KV_INDEX_DEPTH + 4];
} kv_change_t;


/* `c` children of an inner node from `at` on, which `k` others replace. */

typedef struct {
    const kv_inner_t          *old;
    unsigned                   at;
    unsigned                   c;
    unsigned                   k;          /* at most 2 */
    kv_index_node_t           *kid[2];
    kv_slice_t                 separator;  /* between two of them */
} kv_replace_t;


static inline kv_slice_t
kv_slice(const void *p, size_t n)
{
    kv_slice_t  s;

    s.p = p;
    s.n = n;

    return s;
}


static inline int
kv_slice_compare(kv_slice_t a, kv_slice_t b)
{
    int  c;

    c = memcmp(a.p, b.p, kv_min(a.n, b.n));

    return c ? c : (a.n > b.n) - (a.n < b.n);
}


/* How many bytes both begin with. */

static inline size_t
kv_slice_common(kv_slice_t a, kv_slice_t b)
{
    size_t  i, n;

    n = kv_min(a.n, b.n);

    for (i = 0; i < n && a.p[i] == b.p[i]; i++) {
        /* void */
    }

    return i;
}


static inline kv_slice_t
kv_slice_skip(kv_slice_t s, size_t n)
{
    assert(n <= s.n);

    return kv_slice(s.p + n, s.n - n);
}


/*
 * The first four bytes as a number.  Two strings whose numbers differ compare
 * as these do.
 */

static inline uint32_t
kv_slice_head(kv_slice_t s)
{
    size_t    i;
    uint32_t  head;

    if (kv_likely(s.n >= sizeof(head))) {
        memcpy(&head, s.p, sizeof(head));
        return __builtin_bswap32(head);
    }

    for (i = 0, head = 0; i < s.n; i++) {
        head |= (uint32_t) s.p[i] << (24 - 8 * i);
    }

    return head;
}


/* The prefix of a leaf between two fences; `high.p` NULL: there is none. */

static inline size_t
kv_fences_common(kv_slice_t low, kv_slice_t high)
{
    return high.p ? kv_slice_common(low, high) : 0;
}


/* Keys in leaves. */

static inline kv_slice_t
kv_key_slice(const unsigned char *key)
{
    unsigned  n;

    n = __atomic_load_n(key, __ATOMIC_RELAXED) & ~KV_KEY_DEAD;

    if (kv_likely(n != KV_KEY_LONG)) {
        return kv_slice(key + 1, n);
    }

    return kv_slice(key + 3, key[1] | (size_t) key[2] << 8);
}


static inline bool
kv_key_dead(const unsigned char *key)
{
    return __atomic_load_n(key, __ATOMIC_RELAXED) & KV_KEY_DEAD;
}


static inline unsigned
kv_key_size(size_t n)
{
    return (unsigned) n + (n < KV_KEY_LONG ? 1 : 3);
}


/* Inner nodes. */

static inline uint32_t *
kv_inner_heads(const kv_inner_t *inner)
{
    return (uint32_t *) &inner->child[inner->node.n];
}


static inline uint16_t *
kv_inner_ends(const kv_inner_t *inner)
{
    return (uint16_t *) (kv_inner_heads(inner) + inner->node.n - 1);
}


/* The separator between child `i` and the next one. */

static inline kv_slice_t
kv_inner_separator(const kv_inner_t *inner, unsigned i)
{
    unsigned         from;
    const uint16_t  *ends;

    assert(i + 1 < inner->node.n);

    ends = kv_inner_ends(inner);
    from = i ? ends[i - 1] : 0;

    return kv_slice((unsigned char *) (ends + inner->node.n - 1) + from,
                    ends[i] - from);
}


static inline kv_index_node_t *
kv_inner_child(const kv_inner_t *inner, unsigned i)
{
    assert(i < inner->node.n);

    return atomic_load_explicit(&inner->child[i], memory_order_acquire);
}


/* Finds the leaf again, which may have been replaced by another. */

static inline void
kv_path_reload(kv_path_t *path)
{
    if (path->depth) {
        path->leaf = (kv_leaf_t *) kv_inner_child(path->inner[path->depth - 1],
                                                  path->at[path->depth - 1]);
    }
}


/* kv_index_node.c */

/* A node of at least `size` bytes, with its size and next set; or NULL. */
kv_index_node_t *kv_node_alloc(kv_index_t *index, size_t size);
void kv_node_free(kv_index_t *index, kv_index_node_t *node);

/* Whether there is memory for a node now, without the heap's reserve. */
bool kv_node_fits(kv_index_t *index, size_t size);

/* The sizes of objects for single keys, and the one for a key of `n` bytes. */
extern const uint32_t  kv_index_links[KV_INDEX_LINKS];
unsigned kv_link_class(size_t n);


/* kv_index_inner.c */

/* The number of the child that is responsible for `key`. */
unsigned kv_inner_search(const kv_inner_t *inner, kv_slice_t key);

/* Finds the leaf for a key.  False: the index is empty. */
bool kv_path_find(kv_index_t *index, kv_slice_t key, kv_path_t *path);

/*
 * The writer's, for at most KV_INDEX_GROUP keys and an index that is not empty:
 * the processor fetches what lies on their ways, and the leaves, together.
 */
void kv_path_find_group(kv_index_t *index, const kv_slice_t *keys, unsigned n,
    kv_path_t *path);

/*
 * The fences of child `i` of the node at `depth` (from 1 on) of the path; at
 * depth 0, of the root.
 */
kv_slice_t kv_path_low(const kv_path_t *path, unsigned depth, unsigned i);
kv_slice_t kv_path_high(const kv_path_t *path, unsigned depth, unsigned i);

/* How many children, and which, an inner node would have then. */
unsigned kv_replace_count(const kv_replace_t *r);
kv_index_node_t *kv_replace_child(const kv_replace_t *r, unsigned i);

/* And which separator behind child `i`. */
kv_slice_t kv_replace_separator(const kv_replace_t *r, unsigned i);

/* Bytes of an inner node with the children from `from` on before `to`. */
size_t kv_inner_size(const kv_replace_t *r, unsigned from, unsigned to);

/* Makes it.  NULL: no memory. */
kv_inner_t *kv_inner_make(kv_index_t *index, const kv_replace_t *r,
    unsigned from, unsigned to);


/* kv_index_leaf.c */

/*
 * Begins with the key `from` (with `after`, behind it), which is what follows
 * the prefix.
 */
void kv_leaf_walk(kv_leaf_walk_t *walk, const kv_leaf_t *leaf, kv_slice_t from,
    bool after);

/* The next key, or NULL. */
const unsigned char *kv_leaf_next(kv_leaf_walk_t *walk);

/*
 * How many live keys the leaf has from `low` on, and how many bytes they take
 * in a leaf with a prefix of `prefix_len` bytes.
 */
unsigned kv_leaf_measure(const kv_leaf_t *leaf, kv_slice_t low,
    size_t prefix_len, size_t *bytes);

/*
 * Makes an empty leaf for `bytes` of keys, with `space` bytes of free space, or
 * as many as one should have to which keys come; 0: none are awaited.  NULL: no
 * memory.
 */
kv_leaf_t *kv_leaf_make(kv_index_t *index, kv_slice_t low, kv_slice_t high,
    size_t bytes, size_t space);

/* The same without free space. */
kv_leaf_t *kv_leaf_make_full(kv_index_t *index, kv_slice_t low,
    kv_slice_t high, size_t bytes);

/* The same of an object whose node.size is set. */
kv_leaf_t *kv_leaf_format(kv_index_node_t *node, kv_slice_t low,
    kv_slice_t high);

/* Moves at most `n` of the walk's keys to the end of a new leaf. */
void kv_leaf_fill(kv_leaf_t *leaf, kv_leaf_walk_t *walk, unsigned n);

/* Fills a new leaf with keys in order, from which it takes its prefix away. */
void kv_leaf_fill_keys(kv_leaf_t *leaf, const kv_slice_t *keys, unsigned n);

/* Appends a key, without its prefix.  False: there is no space. */
bool kv_leaf_append(kv_leaf_t *leaf, kv_slice_t key);

/* Hangs a key, without its prefix, on the leaf. */
void kv_leaf_link(kv_leaf_t *leaf, kv_index_link_t *link, kv_slice_t key);

/* Marks a key, without its prefix, as deleted.  False: it is not there. */
bool kv_leaf_mark(kv_leaf_t *leaf, kv_slice_t key);

/* Bytes of keys in the leaf itself, the deleted ones too. */
static inline size_t
kv_leaf_bytes(const kv_leaf_t *leaf)
{
    return (size_t) kv_get_relaxed(leaf->used) - leaf->node.n;
}


/* kv_index_change.c */

/*
 * Makes space in the leaf of the path for a key that takes `size` bytes there,
 * in what replaces that leaf.  False: nothing changed, there is no memory.
 */
bool kv_change_grow(kv_index_t *index, kv_path_t *path, size_t size);

/*
 * Replaces the leaf of the path, of which many keys are deleted, by a smaller
 * one, or by none, if there is memory.
 */
void kv_change_shrink(kv_index_t *index, kv_path_t *path);

/*
 * A change: begins it, names a node that was made for it, and one that it
 * replaces.  `c`, `k`: see kv_replace_t.
 */
void kv_change_begin(kv_change_t *change, kv_replace_t *r, unsigned c,
    unsigned k);
void kv_change_made(kv_change_t *change, kv_index_node_t *node);
void kv_change_gone(kv_change_t *change, void *node);

/*
 * Ends it: retires what was replaced, or frees what was made in vain.  Returns
 * `done`.
 */
bool kv_change_end(kv_index_t *index, kv_change_t *change, bool done);

/*
 * Puts the nodes of `r` in the place of the leaf of the path, makes what has to
 * be made of the inner nodes above it, and ends the change.  False: there is no
 * memory, and nothing has changed.
 */
bool kv_change_replace(kv_index_t *index, kv_path_t *path, kv_replace_t *r,
    kv_change_t *change);

/* Walks the keys that a leaf is responsible for, whose low fence this is. */
void kv_change_walk(kv_leaf_walk_t *walk, const kv_leaf_t *leaf,
    kv_slice_t low);

/*
 * Writes the shortest string that is above the key `a` of the leaf and not
 * above `b`, the next one, both without its prefix.
 */
kv_slice_t kv_change_separator(const kv_leaf_t *leaf, kv_slice_t a,
    kv_slice_t b, unsigned char *separator);

/* Makes `node` the root, or the child that the path leads to at `depth`. */
void kv_change_publish(kv_index_t *index, const kv_path_t *path,
    unsigned depth, kv_index_node_t *node);


/* kv_index_clear.c */

/* Takes over a subtree that no new reader can find, to be freed. */
void kv_index_leave(kv_index_t *index, kv_index_node_t *node);


#endif /* KV_INDEX_PRIVATE_H */
