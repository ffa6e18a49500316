
/*
 * What the index's tests share: an index in the zone of map_rig.h, some
 * thousand keys of all shapes in order, and which of them are there.
 */


#ifndef INDEX_RIG_H
#define INDEX_RIG_H


#include "map_rig.h"
#include "index/kv_index.h"


#define INDEX_KEYS  4096


typedef struct {
    unsigned char  *p;
    size_t          n;
    bool            there;
} index_key_t;


extern kv_index_t    the_index;
extern index_key_t   index_key[INDEX_KEYS];     /* in order, no two alike */
extern unsigned      index_keys;                /* in there */
extern unsigned      index_there;               /* of these, in the index */

/* nodes that are refused, of a hundred */
extern unsigned      index_refused;

/* largest step between two positions of index_some(); 0: anywhere */
extern unsigned      index_near;


/* cmocka's: an empty index, and keys of all shapes, or of 16 letters. */
int index_setup(void **state);
int index_setup_plain(void **state);
int index_teardown(void **state);


/* A random key's number. */
unsigned index_some(void);

/* Adds it, or removes it, in the index and here. */
void index_put(unsigned i);
void index_delete(unsigned i);
void index_clear(void);

/* Walks from random keys on, and compares. */
void index_walk_some(unsigned times);

/* Compares everything, and checks the nodes. */
void index_check(void);

/* Frees all that can be. */
void index_reclaim(void);

/* Bytes of the heap that belong to the index. */
uint64_t index_bytes(void);

/* Moves nodes on the way to random keys, as compaction does; how many. */
unsigned index_move_some(unsigned times);


#endif /* INDEX_RIG_H */
