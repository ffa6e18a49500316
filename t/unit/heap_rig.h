
/*
 * What the heap's tests share: a heap of 17 MiB in memory that processes
 * share, and a model of what was allocated from it.
 */


#ifndef HEAP_RIG_H
#define HEAP_RIG_H


#include "memory/kv_heap.h"


#define REGION  ((size_t) 17 << 20)
#define OBJECTS 6000


/* What was allocated: filled with one byte, or not there. */

typedef struct {
    unsigned char   *p;
    size_t           size;
    kv_heap_kind_t   kind;
    unsigned char    fill;
} object_t;


extern kv_heap_t  *heap;
extern void       *heap_region;      /* REGION bytes; the heap is in them */
extern uint64_t    heap_seed;


/* cmocka's: an empty heap; the same random numbers in every test. */
int heap_setup(void **state);
int heap_teardown(void **state);

/* Less than n. */
uint32_t heap_rnd(uint32_t n);

/* Mostly small ones, some up to a page. */
size_t heap_random_size(void);


/* Takes the lock, which must succeed. */
void heap_lock(void);

/* The heap must be sound; the caller has the lock. */
void heap_check(void);

kv_heap_stat_t heap_stat_now(void);

/* Whether n bytes are all c. */
bool heap_filled(const unsigned char *p, size_t n, unsigned char c);

/* How many objects of a class come out of a page; the heap is empty then. */
uint32_t heap_objects_in_page(size_t size);


#endif /* HEAP_RIG_H */
