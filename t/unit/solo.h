
/*
 * A store that one thread runs, on a directory in memory.
 */


#ifndef SOLO_H
#define SOLO_H


#include "kit.h"
#include "ram.h"


/* `host` has no threads, so kit.h's calls for whole operations do not work. */

typedef struct {
    ram_t             ram;
    kv_store_conf_t   conf;
    host_t            host;          /* .store NULL: stopped */
    void             *mem;
    size_t            size;
    kv_err_t          err;
    unsigned          warnings;      /* said at warn or worse since start */
    unsigned          old_notes;     /* of these, of an older clean end */
    unsigned          stuck_notes;   /* of one that cannot be deleted */
} solo_t;


/* Prepares everything but the store; change conf, then solo_start(). */
void solo_init(solo_t *solo, size_t zone);
void solo_done(solo_t *solo);

/* As kv_store_create(), in memory that is zeroed; takes a place. */
kv_rc_t solo_start(solo_t *solo);

/* Stops it, and the log is closed, or as if it had been killed. */
void solo_stop(solo_t *solo, bool clean);

/*
 * Does to the directory what the last refusal says: moves files away,
 * truncates, has a snapshot stand alone.  False: it names no way out.
 */
bool solo_way_out(solo_t *solo);

/*
 * Submits operations, as one batch if that can hold them, works them off, and
 * does no background work.  Results go to `rc`; the records are released.
 */
void solo_commit(solo_t *solo, kv_op_t **op, unsigned n, kv_rc_t *rc);

/* Puts version 1 of a key, of `len` bytes, alone.  The result of the put. */
kv_rc_t solo_put(solo_t *solo, uint32_t id, uint32_t len);

/* Runs the background task, for its own requests and these: KV_REQUEST_... */
void solo_background(solo_t *solo, unsigned requests);


/* The store of a test that needs only one. */
extern solo_t  solo;

/* cmocka's: prepares it, with a zone of 4 MiB, for solo_start(); ends it. */
int solo_setup(void **state);
int solo_teardown(void **state);


#endif /* SOLO_H */
