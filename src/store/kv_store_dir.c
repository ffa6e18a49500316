
/*
 * The store's directory; see kv_store_dir.h.
 */


#include <string.h>
#include <unistd.h>

#include "store/kv_store_dir.h"


void
kv_store_dir_init(kv_store_dir_t *dir)
{
    kv_io_system(&dir->io);

    dir->fd = -1;
    dir->lockfd = -1;
    dir->made[0] = '\0';
}


kv_rc_t
kv_store_dir_check(const char *path, kv_dir_id_t *id, kv_err_t *err)
{
    return kv_dir_check(path, id, err);
}


kv_rc_t
kv_store_dir_id(const kv_store_dir_t *dir, kv_dir_id_t *id)
{
    return kv_dir_id(dir->fd, id);
}


bool
kv_store_dir_same(const kv_dir_id_t *one, const kv_dir_id_t *two)
{
    return kv_dir_same(one, two);
}


kv_rc_t
kv_store_dir_open(kv_store_dir_t *dir, const char *path, kv_err_t *err)
{
    kv_dir_id_t  id;

    if (kv_dir_check(path, &id, err) == KV_OK) {
        (void) memcpy(dir->made, id.missing, sizeof(dir->made));
    }

    return kv_dir_open(path, &dir->fd, err);
}


kv_rc_t
kv_store_dir_lock(kv_store_dir_t *dir, const char *path, kv_holder_t *holder,
    kv_err_t *err)
{
    return kv_dir_lock(dir->fd, path, dir->io.uid, dir->io.gid, &dir->lockfd,
                       &dir->found, holder, err);
}


kv_rc_t
kv_store_dir_take(kv_store_dir_t *dir, const char *path, kv_err_t *err)
{
    return kv_dir_set_owner(dir->fd, path, dir->io.uid, dir->io.gid, err);
}


void
kv_store_dir_set_holder(kv_store_dir_t *dir, int pid)
{
    kv_dir_set_holder(dir->lockfd, pid);
}


void
kv_store_dir_undo(kv_store_dir_t *dir)
{
    if (dir->lockfd != -1) {
        kv_dir_undo(dir->fd, &dir->found);
    }

    if (dir->fd != -1 && dir->made[0]) {
        kv_dir_remove(dir->fd, dir->made);
    }
}


void
kv_store_dir_close(kv_store_dir_t *dir)
{
    if (dir->lockfd != -1) {
        (void) close(dir->lockfd);
        dir->lockfd = -1;
    }

    if (dir->fd != -1) {
        (void) close(dir->fd);
        dir->fd = -1;
    }
}
