
/*
 * What libraft takes from the C library, where the module is a shared object.
 *
 * Debian compiles libraft.a for programs, which have a copy of such variables
 * at an address that is known when they are linked; a shared object cannot.  So
 * the linker leads the library's two here (--wrap, in config).  One is for its
 * default tracer, which is off; from the other it learns whether it is part of
 * a test of dqlite's.
 */


#include <stdio.h>


#define KV_RAFT_HIDDEN  __attribute__((visibility("hidden")))


extern FILE  *__wrap_stderr KV_RAFT_HIDDEN;
extern char  *__wrap___progname KV_RAFT_HIDDEN;


FILE  *__wrap_stderr;
char  *__wrap___progname = "nginx";
