
/*
 * Freed memory of the heap, made to show uses after the free.  For test builds
 * only, in either of two ways, or both:
 *
 *   - Under AddressSanitizer it cannot be touched: an access ends the process
 *     with a report. Each process has its own notes of the sanitizer, so they
 *     would be wrong where one process frees what another allocates: a process
 *     that forks gives up its heaps, for itself and its children.
 *   - With -DKV_POISON it is filled with one byte, in the memory itself, which
 *     all processes see. The next allocation checks that the byte is still
 *     everywhere, and aborts if not; a read shows by what it returns.
 *
 * All calls are made with the heap's lock held.  In other builds they do
 * nothing.
 */


#ifndef KV_POISON_H
#define KV_POISON_H


#include "base/kv_base.h"


#if defined(__SANITIZE_ADDRESS__)
#define KV_POISON_ASAN  1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KV_POISON_ASAN  1
#endif
#endif


#if defined(KV_POISON) || defined(KV_POISON_ASAN)

/*
 * Set by a process that shares no heap with another, and does not fork, before
 * it makes one: under AddressSanitizer nothing is filled, then, nor checked, as
 * its notes tell all.
 */
extern bool  kv_poison_alone;

/*
 * The pages of a new heap, which no other process uses yet, and which
 * kv_poison_unused() is called for next; and the end of that, before their
 * memory goes back to the system.
 */
void kv_poison_region(void *p, size_t n);
void kv_poison_forget(void *p, size_t n);

/* Not allocated, its content unknown. */
void kv_poison_unused(void *p, size_t n);

/* The same memory before its first use: it gets the byte. */
void kv_poison_fresh(void *p, size_t n);

/* The `n` bytes at `p` are freed. */
void kv_poison_free(void *p, size_t n);

/* Allocated; aborts if a process wrote there while it was free. */
void kv_poison_alloc(void *p, size_t n);

#else

#define kv_poison_region(p, n)  ((void) (p), (void) (n))
#define kv_poison_forget(p, n)  ((void) (p), (void) (n))
#define kv_poison_unused(p, n)  ((void) (p), (void) (n))
#define kv_poison_fresh(p, n)   ((void) (p), (void) (n))
#define kv_poison_free(p, n)    ((void) (p), (void) (n))
#define kv_poison_alloc(p, n)   ((void) (p), (void) (n))

#endif


#endif /* KV_POISON_H */
