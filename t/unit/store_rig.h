
/*
 * What the store's tests share: a store in one process, a main thread that
 * submits, threads that commit and do the background work, restarts from
 * disk, and what each key must be.
 */


#ifndef STORE_RIG_H
#define STORE_RIG_H


#include "kit.h"


#define IDS  2000u


extern kit_t     kit;
extern host_t    host;

/* What there is to be: versions by key, 0 for none. */
extern uint32_t  shadow[IDS];


/* cmocka's: a directory and 16 MiB for a zone, but no store in it. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* Less than n; the same numbers in every test. */
uint32_t rig_rnd(uint32_t n);


/* A new zone from what the directory holds, and its host; must succeed. */
void rig_start(void);
void rig_stop(void);

/* Both, and all is there that was. */
void rig_restart(void);

/* Each key is what `shadow` says, and no other is there. */
void rig_verify(void);

/* The heap holds what it must and nothing else: see kit_settle(). */
void rig_settled(void);


/* One put, which must succeed, and is noted. */
void rig_put(uint32_t id, uint32_t version, uint32_t len);

/* Some of everything, one by one and many at a time: up to 64 each round. */
void rig_traffic(unsigned rounds);

/* Asks for a snapshot, and waits until it is made or has failed (10 s). */
void rig_snapshot(void);


/* For conf.stopping: what the test sets. */
extern _Atomic bool  rig_quitting;
bool rig_is_quitting(void);


#endif /* STORE_RIG_H */
