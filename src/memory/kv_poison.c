
/*
 * Poisoned memory; see kv_poison.h.
 */


#include "memory/kv_poison.h"


#if defined(KV_POISON) || defined(KV_POISON_ASAN)


#include <pthread.h>
#include <stdlib.h>


bool  kv_poison_alone;


#ifdef KV_POISON_ASAN

#include <sanitizer/asan_interface.h>


#define KV_POISON_REGIONS  64


typedef struct {
    void    *p;
    size_t   n;
} kv_poison_region_t;


static pthread_once_t      kv_poison_once = PTHREAD_ONCE_INIT;
static kv_poison_region_t  kv_poison_regions[KV_POISON_REGIONS];


static kv_poison_region_t *
kv_poison_watched(const void *p)
{
    unsigned             i;
    kv_poison_region_t  *r;

    for (i = 0; i < KV_POISON_REGIONS; i++) {
        r = &kv_poison_regions[i];

        if (r->p && (const char *) p >= (char *) r->p
            && (const char *) p < (char *) r->p + r->n)
        {
            return r;
        }
    }

    return NULL;
}


static void
kv_poison_drop(const void *p, size_t n)
{
    unsigned             i;
    kv_poison_region_t  *r;

    for (i = 0; i < KV_POISON_REGIONS; i++) {
        r = &kv_poison_regions[i];

        if ((const char *) r->p >= (const char *) p
            && (const char *) r->p < (const char *) p + n)
        {
            r->p = NULL;
        }
    }
}


static void
kv_poison_give_up(void)
{
    unsigned             i;
    kv_poison_region_t  *r;

    for (i = 0; i < KV_POISON_REGIONS; i++) {
        r = &kv_poison_regions[i];

        if (r->p) {
            ASAN_UNPOISON_MEMORY_REGION(r->p, r->n);
            r->p = NULL;
        }
    }
}


static void
kv_poison_init(void)
{
    (void) pthread_atfork(kv_poison_give_up, NULL, NULL);
}

#endif


#ifdef KV_POISON

#define KV_POISON_BYTE  0xf5


#ifdef KV_POISON_ASAN
#define kv_poison_fills()  (!kv_poison_alone)
#else
#define kv_poison_fills()  true
#endif


static void __attribute__((noreturn))
kv_poison_found(const unsigned char *p, size_t n)
{
    size_t  i;

    for (i = 0; i < n - 1 && p[i] == KV_POISON_BYTE; i++) { /* void */ }

    fprintf(stderr, "kv: freed memory was written: %zu bytes at %p, at offset "
            "%zu: %02x %02x %02x %02x\n", n, (const void *) p, i, p[i],
            p[kv_min(i + 1, n - 1)], p[kv_min(i + 2, n - 1)],
            p[kv_min(i + 3, n - 1)]);

    abort();
}

#endif


void
kv_poison_region(void *p, size_t n)
{
#ifdef KV_POISON_ASAN
    unsigned  i;

    (void) pthread_once(&kv_poison_once, kv_poison_init);

    kv_poison_drop(p, n);

    for (i = 0; i < KV_POISON_REGIONS; i++) {

        if (kv_poison_regions[i].p == NULL) {
            kv_poison_regions[i].p = p;
            kv_poison_regions[i].n = n;
            return;
        }
    }

    ASAN_UNPOISON_MEMORY_REGION(p, n);
#else
    (void) p;
    (void) n;
#endif
}


void
kv_poison_forget(void *p, size_t n)
{
#ifdef KV_POISON_ASAN
    kv_poison_drop(p, n);

    ASAN_UNPOISON_MEMORY_REGION(p, n);
#else
    (void) p;
    (void) n;
#endif
}


void
kv_poison_unused(void *p, size_t n)
{
#ifdef KV_POISON_ASAN
    if (kv_poison_watched(p)) {
        ASAN_POISON_MEMORY_REGION(p, n);
    }
#else
    (void) p;
    (void) n;
#endif
}


void
kv_poison_fresh(void *p, size_t n)
{
#ifdef KV_POISON
    if (!kv_poison_fills()) {
        return;
    }

#ifdef KV_POISON_ASAN
    ASAN_UNPOISON_MEMORY_REGION(p, n);
#endif

    kv_poison_free(p, n);
#else
    (void) p;
    (void) n;
#endif
}


void
kv_poison_free(void *p, size_t n)
{
#ifdef KV_POISON
    if (kv_poison_fills()) {
        memset(p, KV_POISON_BYTE, n);
    }
#endif

    kv_poison_unused(p, n);
}


void
kv_poison_alloc(void *p, size_t n)
{
#ifdef KV_POISON
    const unsigned char  *byte;
#endif

#ifdef KV_POISON_ASAN
    ASAN_UNPOISON_MEMORY_REGION(p, n);
#endif

#ifdef KV_POISON
    byte = p;

    if (kv_poison_fills() && n
        && (byte[0] != KV_POISON_BYTE || memcmp(byte, byte + 1, n - 1)))
    {
        kv_poison_found(byte, n);
    }
#else
    (void) n;
#endif
}


#else

typedef int  kv_poison_none_t;           /* a file must not be empty */

#endif
