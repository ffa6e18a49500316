
/*
 * A zone's life: its shared memory, its directory, the lock on it, and what a
 * new configuration takes over.
 *
 * All of this runs in the master, as root perhaps, before it forks.  The init
 * callback is the place where a bad zone can still be refused on a reload:
 * what fails there leaves the running configuration in place.  nginx calls it
 * for `nginx -t` too, beside the real server, which must notice nothing.
 */


#include "http/ngx_http_kv.h"


/* how often the lock of another master is tried again, every 20 ms */
#define NGX_HTTP_KV_LOCK_TRIES  100


static ngx_int_t ngx_http_kv_create_zone(ngx_http_kv_zone_t *zone,
    ngx_slab_pool_t *shpool);
static ngx_int_t ngx_http_kv_reload_zone(ngx_http_kv_zone_t *zone,
    ngx_http_kv_zone_t *old, void *mem);
static ngx_int_t ngx_http_kv_same_cluster(ngx_http_kv_zone_t *zone,
    ngx_http_kv_zone_t *old);
static ngx_int_t ngx_http_kv_same(ngx_http_kv_zone_t *zone, const char *what,
    ngx_str_t *was, ngx_str_t *now);
static ngx_int_t ngx_http_kv_has_master(ngx_http_kv_zone_t *zone);
static ngx_int_t ngx_http_kv_resized(ngx_http_kv_zone_t *zone);
static ngx_int_t ngx_http_kv_open_dir(ngx_http_kv_zone_t *zone);
static ngx_int_t ngx_http_kv_check_other_zones(ngx_http_kv_zone_t *zone,
    kv_store_dir_t *dir, ngx_str_t *path);
static ngx_http_kv_zone_t *ngx_http_kv_zone_at(ngx_cycle_t *cycle,
    ngx_http_kv_zone_t *zone, kv_store_dir_t *dir, ngx_uint_t *archive);
static ngx_uint_t ngx_http_kv_opened(kv_store_dir_t *dir, kv_dir_id_t *id);
static ngx_int_t ngx_http_kv_open_archive(ngx_http_kv_zone_t *zone);
static ngx_int_t ngx_http_kv_lock_dir(ngx_http_kv_zone_t *zone,
    kv_store_dir_t *dir, ngx_str_t *path);
static void ngx_http_kv_log_holder(ngx_http_kv_zone_t *zone, ngx_str_t *path,
    kv_holder_t *holder);
static ngx_int_t ngx_http_kv_same_user(ngx_http_kv_zone_t *zone,
    ngx_http_kv_zone_t *old);
static void ngx_http_kv_find_dirs(ngx_http_kv_zone_t *zone);
static ngx_uint_t ngx_http_kv_is_at(kv_store_dir_t *dir, ngx_str_t *path);
static void ngx_http_kv_user(ngx_http_kv_zone_t *zone);
static ngx_uint_t ngx_http_kv_workers(ngx_http_kv_zone_t *zone);
static ngx_uint_t ngx_http_kv_helpers(ngx_http_kv_zone_t *zone);


ngx_http_kv_zone_t *
ngx_http_kv_find_zone(ngx_http_kv_main_conf_t *kmcf, const ngx_str_t *name)
{
    ngx_uint_t            i;
    ngx_http_kv_zone_t  **zone;

    zone = kmcf->zones.elts;

    for (i = 0; i < kmcf->zones.nelts; i++) {

        if (zone[i]->name.len == name->len
            && ngx_strncmp(zone[i]->name.data, name->data, name->len) == 0)
        {
            return zone[i];
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_kv_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_kv_zone_t  *zone;
    ngx_slab_pool_t     *shpool;

    zone = shm_zone->data;
    zone->log = shm_zone->shm.log;

    if (ngx_http_kv_has_master(zone) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_test_config) {
        return NGX_OK;
    }

    shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (data) {
        return ngx_http_kv_reload_zone(zone, data, shpool->data);
    }

    if (ngx_http_kv_resized(zone) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_kv_create_zone(zone, shpool);
}


static ngx_int_t
ngx_http_kv_create_zone(ngx_http_kv_zone_t *zone, ngx_slab_pool_t *shpool)
{
    u_char     *mem;
    size_t      size;
    kv_rc_t     rc;
    kv_err_t    err;
    ngx_uint_t  places;

    zone->owner = 1;
    zone->pending = 1;

    if (ngx_http_kv_open_dir(zone) != NGX_OK
        || ngx_http_kv_open_archive(zone) != NGX_OK)
    {
        return NGX_ERROR;
    }

    places = 4 * (ngx_http_kv_workers(zone) + ngx_http_kv_helpers(zone));
    places = ngx_max(places, KV_WORKERS_MIN);
    places = ngx_min(places, KV_WORKERS_MAX);

    /* all that nginx's own allocator has, in one piece */

    size = shpool->pfree * ngx_pagesize;

    mem = ngx_slab_alloc(shpool, size);
    if (mem == NULL) {
        return NGX_ERROR;
    }

    rc = kv_store_create(&zone->store, &zone->conf, mem, size, places,
                         &zone->dir.io, zone->dir.fd, &err);

    if (rc == KV_OK) {
        rc = kv_store_archive_fits(zone->store, &err);
    }

    if (rc != KV_OK) {
        ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                      "kv zone \"%V\" cannot be loaded from \"%V\": %s",
                      &zone->name, &zone->path, err.text);
        return NGX_ERROR;
    }

    shpool->data = mem;

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_reload_zone(ngx_http_kv_zone_t *zone, ngx_http_kv_zone_t *old,
    void *mem)
{
    kv_err_t     err;
    ngx_uint_t   places;
    kv_dir_id_t  id;

    if (ngx_strcmp(zone->path.data, old->path.data) != 0
        && !(zone->dir_known && kv_store_dir_id(&old->dir, &id) == KV_OK
             && kv_store_dir_same(&zone->dir_id, &id)))
    {
        ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                      "kv zone \"%V\" uses \"%V\": a reload cannot move it to "
                      "\"%V\", restart nginx to do so",
                      &zone->name, &old->path, &zone->path);
        return NGX_ERROR;
    }

    if (ngx_http_kv_same(zone, "archive", &old->archive, &zone->archive)
        != NGX_OK
        || ngx_http_kv_same_cluster(zone, old) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_kv_user(zone);

    if (ngx_http_kv_same_user(zone, old) != NGX_OK) {
        return NGX_ERROR;
    }

    /* but not dir.io: its functions may go with the old cycle's module */

    zone->dir.fd = old->dir.fd;
    zone->dir.lockfd = old->dir.lockfd;
    zone->archive_dir.fd = old->archive_dir.fd;
    zone->archive_dir.lockfd = old->archive_dir.lockfd;
    zone->conf.archive_fd = zone->archive_dir.fd;

    ngx_http_kv_find_dirs(zone);

    zone->old = old;

    if (kv_store_attach(&zone->store, &zone->conf, mem, &zone->dir.io,
                        zone->dir.fd, &err)
        != KV_OK)
    {
        ngx_log_error(NGX_LOG_EMERG, zone->log, 0, "%s", err.text);
        return NGX_ERROR;
    }

    /* old and new workers run side by side for a while */

    places = kv_store_workers(zone->store) / 2 - ngx_http_kv_helpers(zone);

    if (ngx_http_kv_workers(zone) > places) {
        ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                      "kv zone \"%V\" was made for %ui workers at most: a "
                      "reload cannot raise them to %ui, restart nginx to do "
                      "so", &zone->name, places, ngx_http_kv_workers(zone));
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_same_cluster(ngx_http_kv_zone_t *zone, ngx_http_kv_zone_t *old)
{
    if (ngx_http_kv_same(zone, "cluster address", &old->cluster,
                         &zone->cluster)
        != NGX_OK
        || ngx_http_kv_same(zone, "peers", &old->peers, &zone->peers) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_kv_same(zone, "address for peers", &old->peer_listen,
                            &zone->peer_listen);
}


/* Refuses another value, or one where there was none, or the other way. */

static ngx_int_t
ngx_http_kv_same(ngx_http_kv_zone_t *zone, const char *what, ngx_str_t *was,
    ngx_str_t *now)
{
    if (now->len == was->len
        && ngx_strncmp(now->data, was->data, was->len) == 0)
    {
        return NGX_OK;
    }

    if (was->len == 0) {
        ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                      "kv zone \"%V\" has no %s: a reload cannot give it "
                      "\"%V\", restart nginx to do so",
                      &zone->name, what, now);

    } else if (now->len == 0) {
        ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                      "kv zone \"%V\" has the %s \"%V\": a reload cannot "
                      "take it away, restart nginx to do so",
                      &zone->name, what, was);

    } else {
        ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                      "kv zone \"%V\" has the %s \"%V\": a reload cannot "
                      "change it to \"%V\", restart nginx to do so",
                      &zone->name, what, was, now);
    }

    return NGX_ERROR;
}


/* Whether nginx can start the process that a zone with cluster= needs. */

static ngx_int_t
ngx_http_kv_has_master(ngx_http_kv_zone_t *zone)
{
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(zone->cycle->conf_ctx,
                                           ngx_core_module);

    if (zone->cluster.len == 0 || ccf->master) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                  "kv zone \"%V\": \"cluster=\" needs a process of its own, "
                  "which nginx does not start with \"master_process off\": "
                  "remove one of them", &zone->name);

    return NGX_ERROR;
}


/*
 * nginx gives a zone whose size changed new memory, while the old workers
 * still use the old one, and the same directory.
 */

static ngx_int_t
ngx_http_kv_resized(ngx_http_kv_zone_t *zone)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_shm_zone_t   *shm_zone;

    if (ngx_cycle == NULL || ngx_is_init_cycle(ngx_cycle)) {
        return NGX_OK;
    }

    part = (ngx_list_part_t *) &ngx_cycle->shared_memory.part;
    shm_zone = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            shm_zone = part->elts;
            i = 0;
        }

        if (shm_zone[i].tag == zone->shm_zone->tag
            && shm_zone[i].shm.name.len == zone->name.len
            && ngx_strncmp(shm_zone[i].shm.name.data, zone->name.data,
                           zone->name.len)
               == 0)
        {
            ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                          "kv zone \"%V\" has a size of %uz bytes: a reload "
                          "cannot change it to %uz, restart nginx to do so",
                          &zone->name, shm_zone[i].shm.size,
                          zone->shm_zone->shm.size);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_open_dir(ngx_http_kv_zone_t *zone)
{
    kv_err_t  err;

    ngx_http_kv_user(zone);

    if (kv_store_dir_open(&zone->dir, (char *) zone->path.data, &err)
        != KV_OK)
    {
        goto failed;
    }

    if (ngx_http_kv_check_other_zones(zone, &zone->dir, &zone->path) != NGX_OK
        || ngx_http_kv_lock_dir(zone, &zone->dir, &zone->path) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (kv_store_dir_take(&zone->dir, (char *) zone->path.data, &err)
        == KV_OK)
    {
        return NGX_OK;
    }

failed:

    ngx_log_error(NGX_LOG_EMERG, zone->log, 0, "kv zone \"%V\": %s",
                  &zone->name, err.text);

    return NGX_ERROR;
}


/* The same for its archive, which no other store may have, either. */

static ngx_int_t
ngx_http_kv_open_archive(ngx_http_kv_zone_t *zone)
{
    char      *path;
    kv_err_t   err;

    if (zone->archive.len == 0) {
        return NGX_OK;
    }

    path = (char *) zone->archive.data;

    zone->archive_dir.io.uid = zone->dir.io.uid;
    zone->archive_dir.io.gid = zone->dir.io.gid;

    if (kv_store_dir_open(&zone->archive_dir, path, &err) == KV_OK) {

        if (ngx_http_kv_check_other_zones(zone, &zone->archive_dir,
                                          &zone->archive)
            != NGX_OK
            || ngx_http_kv_lock_dir(zone, &zone->archive_dir, &zone->archive)
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (kv_store_dir_take(&zone->archive_dir, path, &err) == KV_OK) {
            zone->conf.archive_fd = zone->archive_dir.fd;
            return NGX_OK;
        }
    }

    ngx_log_error(NGX_LOG_EMERG, zone->log, 0, "kv zone \"%V\": %s",
                  &zone->name, err.text);

    return NGX_ERROR;
}


/* If the master is root, the files belong to the workers' user. */

static void
ngx_http_kv_user(ngx_http_kv_zone_t *zone)
{
    ngx_core_conf_t  *ccf;

    if (geteuid() != 0) {
        return;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(zone->cycle->conf_ctx,
                                           ngx_core_module);
    zone->dir.io.uid = ccf->user;
    zone->dir.io.gid = ccf->group;
}


/* Refuses a directory that another zone of this nginx has, by any name. */

static ngx_int_t
ngx_http_kv_check_other_zones(ngx_http_kv_zone_t *zone, kv_store_dir_t *dir,
    ngx_str_t *path)
{
    ngx_uint_t           archive;
    ngx_http_kv_zone_t  *twin;

    twin = ngx_http_kv_zone_at(zone->cycle, zone, dir, &archive);

    if (twin) {
        ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                      "kv zone \"%V\": \"%V\" is the %s of kv zone \"%V\", "
                      "\"%V\": each zone needs a directory, and an archive, of "
                      "its own", &zone->name, path,
                      archive ? "archive" : "directory", &twin->name,
                      archive ? &twin->archive : &twin->path);
        return NGX_ERROR;
    }

    if (ngx_cycle == NULL || ngx_is_init_cycle(ngx_cycle)) {
        return NGX_OK;
    }

    twin = ngx_http_kv_zone_at((ngx_cycle_t *) ngx_cycle, zone, dir, &archive);

    if (twin) {
        ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                      "kv zone \"%V\": \"%V\" is in use by this nginx as %skv "
                      "zone \"%V\": a reload cannot rename it, restart nginx "
                      "to do so", &zone->name, path,
                      archive ? "the archive of " : "", &twin->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * Returns another zone of the cycle that has opened the directory, as its own
 * or, then *archive is set, for its archive; or NULL.
 */

static ngx_http_kv_zone_t *
ngx_http_kv_zone_at(ngx_cycle_t *cycle, ngx_http_kv_zone_t *zone,
    kv_store_dir_t *dir, ngx_uint_t *archive)
{
    ngx_uint_t           i;
    kv_dir_id_t          id;
    ngx_list_part_t     *part;
    ngx_shm_zone_t      *shm_zone;
    ngx_http_kv_zone_t  *other;

    *archive = 0;

    if (kv_store_dir_id(dir, &id) != KV_OK) {
        return NULL;
    }

    for (part = &cycle->shared_memory.part; part; part = part->next) {

        shm_zone = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (shm_zone[i].tag != zone->shm_zone->tag
                || shm_zone[i].init != zone->shm_zone->init)
            {
                continue;
            }

            other = shm_zone[i].data;

            if (other == zone) {
                continue;
            }

            *archive = ngx_http_kv_opened(&other->archive_dir, &id);

            if (*archive || ngx_http_kv_opened(&other->dir, &id)) {
                return other;
            }
        }
    }

    return NULL;
}


/* Whether it is open, and that directory. */

static ngx_uint_t
ngx_http_kv_opened(kv_store_dir_t *dir, kv_dir_id_t *id)
{
    kv_dir_id_t  its;

    return dir->fd != -1 && kv_store_dir_id(dir, &its) == KV_OK
           && kv_store_dir_same(id, &its);
}


static ngx_int_t
ngx_http_kv_lock_dir(ngx_http_kv_zone_t *zone, kv_store_dir_t *dir,
    ngx_str_t *path)
{
    kv_rc_t      rc;
    kv_err_t     err;
    ngx_uint_t   tries;
    kv_holder_t  holder;

    /*
     * A master that was told to stop holds the lock until it has closed the
     * log, as it holds its ports, for which nginx waits as well.  One that was
     * killed may have left threads that are still in a sync.
     */

    for (tries = 0; /* void */ ; tries++) {
        rc = kv_store_dir_lock(dir, (char *) path->data, &holder, &err);

        if (rc == KV_OK) {
            return NGX_OK;
        }

        if (rc != KV_BUSY || tries == NGX_HTTP_KV_LOCK_TRIES
            || holder.state == KV_HOLDER_SELF)
        {
            break;
        }

        ngx_msleep(20);
    }

    if (rc == KV_BUSY) {
        ngx_http_kv_log_holder(zone, path, &holder);

    } else {
        ngx_log_error(NGX_LOG_EMERG, zone->log, 0, "kv zone \"%V\": %s",
                      &zone->name, err.text);
    }

    return NGX_ERROR;
}


static void
ngx_http_kv_log_holder(ngx_http_kv_zone_t *zone, ngx_str_t *path,
    kv_holder_t *holder)
{
    u_char       who[128];
    const char  *advice;

    advice = "stop it first";

    switch (holder->state) {

    case KV_HOLDER_SELF:
        (void) ngx_sprintf(who, "workers of this nginx that shut down since a "
                           "reload removed the zone%Z");
        advice = "reload again when they are gone";
        break;

    case KV_HOLDER_ALIVE:
        (void) ngx_sprintf(who, "another nginx, whose master is process %d%Z",
                           holder->pid);
        break;

    case KV_HOLDER_DEAD:
        (void) ngx_sprintf(who, "workers of another nginx, whose master was "
                           "process %d%Z", holder->pid);
        advice = "stop them first";
        break;

    case KV_HOLDER_ELSEWHERE:
        (void) ngx_sprintf(who, "an nginx in another container or on another "
                           "machine, whose master is process %d there%Z",
                           holder->pid);
        break;

    default:
        (void) ngx_sprintf(who, "another nginx (or workers that it left)%Z");

        if (holder->pid) {
            (void) ngx_sprintf(who, "another nginx, whose master is process "
                               "%d (or workers that it left)%Z", holder->pid);
        }
    }

    ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                  "kv zone \"%V\": \"%V\" is in use by %s: %s",
                  &zone->name, path, who, advice);
}


/* Refuses another user: the old workers go on making files of theirs. */

static ngx_int_t
ngx_http_kv_same_user(ngx_http_kv_zone_t *zone, ngx_http_kv_zone_t *old)
{
    ngx_core_conf_t  *ccf;

    if (zone->dir.io.uid == old->dir.io.uid) {
        return NGX_OK;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(zone->cycle->conf_ctx,
                                           ngx_core_module);

    ngx_log_error(NGX_LOG_EMERG, zone->log, 0,
                  "kv zone \"%V\": its files belong to the workers' user, %d: "
                  "a reload cannot change that to \"%s\" (%d), restart nginx "
                  "to do so", &zone->name, (int) old->dir.io.uid,
                  ccf->username ? ccf->username : "",
                  (int) zone->dir.io.uid);

    return NGX_ERROR;
}


/*
 * Warns if a directory that is open, to which files go, is not at its path any
 * more.
 */

static void
ngx_http_kv_find_dirs(ngx_http_kv_zone_t *zone)
{
    if (!ngx_http_kv_is_at(&zone->dir, &zone->path)) {
        ngx_log_error(NGX_LOG_ALERT, zone->log, 0,
                      "kv zone \"%V\": \"%V\" is not the directory in use any "
                      "more, which was moved or deleted: writes still go to "
                      "that one, and a restart will not find them; put it "
                      "back, or stop nginx", &zone->name, &zone->path);
    }

    if (zone->archive.len
        && !ngx_http_kv_is_at(&zone->archive_dir, &zone->archive))
    {
        ngx_log_error(NGX_LOG_ALERT, zone->log, 0,
                      "kv zone \"%V\": \"%V\" is not the archive in use any "
                      "more, which was moved or deleted, or something is "
                      "mounted there: files still go to that one; put it back, "
                      "or restart nginx", &zone->name, &zone->archive);
    }
}


/* False: it surely is not. */

static ngx_uint_t
ngx_http_kv_is_at(kv_store_dir_t *dir, ngx_str_t *path)
{
    kv_err_t     err;
    kv_dir_id_t  id, now;

    return kv_store_dir_id(dir, &id) != KV_OK
           || kv_store_dir_check((char *) path->data, &now, &err) != KV_OK
           || kv_store_dir_same(&id, &now);
}


static ngx_uint_t
ngx_http_kv_workers(ngx_http_kv_zone_t *zone)
{
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(zone->cycle->conf_ctx,
                                           ngx_core_module);

    return ccf->worker_processes > 0 ? (ngx_uint_t) ccf->worker_processes : 1;
}


/* Processes that have a place in the zone beside the workers. */

static ngx_uint_t
ngx_http_kv_helpers(ngx_http_kv_zone_t *zone)
{
    return zone->cluster.len ? 1 : 0;
}


void
ngx_http_kv_take_descriptors(ngx_http_kv_zone_t *zone)
{
    kv_store_in_force(zone->store);

    zone->pending = 0;

    if (zone->old == NULL) {
        return;
    }

    zone->old->owner = 0;
    zone->owner = 1;
    zone->old = NULL;
}


void
ngx_http_kv_close(ngx_http_kv_zone_t *zone)
{
    kv_store_close(zone->store);
}


void
ngx_http_kv_cleanup_zone(void *data)
{
    ngx_http_kv_zone_t *zone = data;

    if (zone->store) {
        kv_store_destroy(zone->store);
        zone->store = NULL;
    }

    if (zone->pending) {
        kv_store_dir_undo(&zone->dir);
        kv_store_dir_undo(&zone->archive_dir);
    }

    if (zone->owner) {
        kv_store_dir_close(&zone->dir);
        kv_store_dir_close(&zone->archive_dir);
    }
}


/*
 * nginx destroys the pool of a configuration that it refuses, whoever refused
 * it.  It has no zones then, but those of the running one are there, which may
 * be of another version of this module: the store looks.
 */

void
ngx_http_kv_cleanup_conf(void *data)
{
    ngx_http_kv_main_conf_t *kmcf = data;

    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_shm_zone_t   *shm_zone;

    if (kmcf->in_force || ngx_test_config || ngx_cycle == NULL
        || ngx_is_init_cycle(ngx_cycle))
    {
        return;
    }

    part = (ngx_list_part_t *) &ngx_cycle->shared_memory.part;

    for ( /* void */ ; part; part = part->next) {

        shm_zone = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (shm_zone[i].tag == &ngx_http_core_module
                && shm_zone[i].shm.addr)
            {
                kv_store_reload_refused(
                            ((ngx_slab_pool_t *) shm_zone[i].shm.addr)->data);
            }
        }
    }
}
