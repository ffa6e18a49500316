
/*
 * What the map's tests share: a zone without a log (heap, retire list, workers,
 * map) and entries whose values say what they are.
 */


#ifndef MAP_RIG_H
#define MAP_RIG_H


#include "store/kv_compact.h"


#define PLACES  8


#if defined __SANITIZE_THREAD__
#define SCALE(n)  ((n) / 4)
#else
#define SCALE(n)  (n)
#endif


extern kv_zone_t    *zone;
extern kv_worker_t  *workers;        /* PLACES of them */
extern uint64_t      map_seed;


/* cmocka's: an empty map in a zone of 64 MiB, or 3. */
int map_setup(void **state);
int map_setup_small(void **state);
int map_teardown(void **state);

/* Less than n; from a seed of the caller's, or map_seed. */
uint32_t map_rnd_of(uint64_t *s, uint32_t n);
uint32_t map_rnd(uint32_t n);

/* For a value: mostly short, now and then of several pieces; at least 8. */
uint32_t map_some_length(uint64_t *s);


/* The heap, which must be sound. */
kv_heap_stat_t map_heap_stat(void);

/*
 * Without entries there is a segment for each root, and the reserve of
 * buckets.
 */
void map_assert_empty(void);


/* An entry that is in no map, `len` >= 8.  NULL: no memory. */
kv_entry_t *map_make_entry(uint32_t id, uint32_t version, uint32_t len);

/* Sets *version and says whether the entry is in order. */
bool map_entry_is(const kv_entry_t *e, uint32_t id, uint32_t *version);

/* Sets key, of 32 bytes; returns its length. */
size_t map_key_of(uint32_t id, char *key);

/* Sets key and its length; returns the hash. */
uint64_t map_hash_of(uint32_t id, char *key, size_t *n);


/* Puts, and retires what was there.  False: no memory. */
bool map_put(uint32_t id, uint32_t version, uint32_t len);

/* Deletes and retires.  False: it was not there. */
bool map_drop(uint32_t id);

/* Waits for readers, if it must. */
void map_clear(void);

/* NULL: not there.  The caller is in an epoch, or no thread writes. */
kv_entry_t *map_find(uint32_t id);


#endif /* MAP_RIG_H */
