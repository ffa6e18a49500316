
/*
 * How far long work is: a line in the error log every two seconds, so that who
 * waits for it sees that it goes on.  Work that ends sooner says nothing.
 *
 * The work has parts, one after the other.  Each counts what is done in steps
 * that are short, but long beside a look at the clock.
 */


#ifndef KV_PROGRESS_H
#define KV_PROGRESS_H


#include "base/kv_base.h"


struct kv_store_s;

typedef struct {
    struct kv_store_s  *store;
    uint64_t            started;          /* monotonic, ns */
    uint64_t            next;             /* when to log */
    char                what[96];         /* the part that is under way */
    const char         *unit;
    uint64_t            per;              /* what is counted makes one of it */
    uint64_t            total;            /* 0: not known */
} kv_progress_t;


/* The work begins; it logs as the store does. */
void kv_progress_begin(kv_progress_t *p, struct kv_store_s *store);

/*
 * A part begins: `total` bytes of `what`, which is copied.  0: how many is not
 * known.
 */
void kv_progress_bytes(kv_progress_t *p, uint64_t total, const char *what, ...)
    __attribute__((format(printf, 3, 4)));

/* The same of `total` keys. */
void kv_progress_keys(kv_progress_t *p, uint64_t total, const char *what);

/* So much of the part is done; logs that, if it is time. */
void kv_progress_step(kv_progress_t *p, uint64_t done);


#endif /* KV_PROGRESS_H */
