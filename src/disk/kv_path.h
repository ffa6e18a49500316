
/*
 * The way to a directory, for a process that may be root: symlinks on it are
 * followed one by one, and by root only where root alone could have made them,
 * so that no other user leads root elsewhere.
 */


#ifndef KV_PATH_H
#define KV_PATH_H


#include "base/kv_base.h"


#define KV_PATH_MAX   512                /* bytes of a path, */
#define KV_PATH_NAME  256                /* of a component; ends included */


/*
 * Walks to the directory `path`; all but its last component must exist.  KV_OK
 * with a descriptor (O_PATH) in *fd, the caller's to close: of the directory,
 * and missing[KV_PATH_NAME] is ""; or, if it is missing, of its parent, with
 * its name in `missing`.  KV_DECLINED, if this user has no right to see it, or
 * KV_ERROR; both with `err` filled.
 */
kv_rc_t kv_path_walk(const char *path, int *fd, char *missing, kv_err_t *err);


#endif /* KV_PATH_H */
