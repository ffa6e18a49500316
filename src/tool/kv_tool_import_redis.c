
/*
 * Import from a running Redis, through hiredis: SCAN gives the keys, some at a
 * time, GET and PTTL of them follow at once.
 *
 * That is no moment of the server: what is written meanwhile may be in it or
 * not, as SCAN says of itself.  A key that it gives twice is put twice, and the
 * later one counts.
 */


#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

#include "base/kv_number.h"
#include "tool/kv_tool_source.h"


#define KV_TOOL_REDIS_COUNT    100       /* keys that one SCAN asks for */
#define KV_TOOL_REDIS_TIMEOUT  30        /* seconds without an answer */
#define KV_TOOL_REDIS_PORT     6379


typedef struct {
    kv_tool_import_t  *import;
    redisContext      *conn;
    const char        *source;           /* for messages */
} kv_tool_redis_t;


static kv_rc_t kv_tool_redis_connect(kv_tool_redis_t *redis);
static redisContext *kv_tool_redis_open(const char *source);
static kv_rc_t kv_tool_redis_hello(kv_tool_redis_t *redis, uint64_t *keys);
static redisReply *kv_tool_redis_ask(kv_tool_redis_t *redis, int type,
    const char *fmt, ...);
static kv_rc_t kv_tool_redis_scan(kv_tool_redis_t *redis);
static kv_rc_t kv_tool_redis_keys(kv_tool_redis_t *redis,
    const redisReply *keys);
static kv_rc_t kv_tool_redis_key(kv_tool_redis_t *redis,
    const redisReply *key);
static kv_rc_t kv_tool_redis_failed(kv_tool_redis_t *redis);


kv_rc_t
kv_tool_import_redis(kv_tool_import_t *import)
{
    kv_rc_t          rc;
    uint64_t         keys;
    kv_tool_redis_t  redis;

    memset(&redis, 0, sizeof(redis));

    redis.import = import;
    keys = 0;
    redis.source = import->source ? import->source : "127.0.0.1:6379";

    rc = kv_tool_redis_connect(&redis);

    if (rc == KV_OK) {
        rc = kv_tool_redis_hello(&redis, &keys);
    }

    if (rc == KV_OK) {
        rc = kv_tool_make_begin(&import->make, import->path);
    }

    if (rc == KV_OK) {
        kv_tool_progress_begin("importing keys", keys, false);
        rc = kv_tool_redis_scan(&redis);
    }

    if (redis.conn) {
        redisFree(redis.conn);
    }

    return rc;
}


static kv_rc_t
kv_tool_redis_connect(kv_tool_redis_t *redis)
{
    struct timeval  timeout;

    timeout.tv_sec = KV_TOOL_REDIS_TIMEOUT;
    timeout.tv_usec = 0;

    redis->conn = kv_tool_redis_open(redis->source);

    if (redis->conn && redis->conn->err == 0
        && redisSetTimeout(redis->conn, timeout) == REDIS_OK)
    {
        return KV_OK;
    }

    kv_tool_say("cannot reach Redis at \"%s\": %s: name it as HOST:PORT, or "
                "by the path of its socket", redis->source,
                redis->conn ? redis->conn->errstr
                            : "this is neither, or there is no memory");

    return KV_ERROR;
}


/* NULL: `source` is no address, or there is no memory. */

static redisContext *
kv_tool_redis_open(const char *source)
{
    char            host[256];
    size_t          n;
    int64_t         port;
    const char     *colon;
    struct timeval  timeout;

    timeout.tv_sec = KV_TOOL_REDIS_TIMEOUT;
    timeout.tv_usec = 0;

    if (source[0] == '/') {
        return redisConnectUnixWithTimeout(source, timeout);
    }

    colon = strrchr(source, ':');
    n = colon ? (size_t) (colon - source) : strlen(source);
    port = KV_TOOL_REDIS_PORT;

    if (n == 0 || n >= sizeof(host)
        || (colon && (!kv_number_parse(colon + 1, strlen(colon + 1), &port)
                      || port < 1 || port > 65535)))
    {
        return NULL;
    }

    /* an IPv6 address stands in brackets */

    if (source[0] == '[' && n > 2 && source[n - 1] == ']') {
        source++;
        n -= 2;
    }

    memcpy(host, source, n);
    host[n] = '\0';

    return redisConnectWithTimeout(host, (int) port, timeout);
}


/* Says who we are, chooses the database, and asks how much is there. */

static kv_rc_t
kv_tool_redis_hello(kv_tool_redis_t *redis, uint64_t *keys)
{
    redisReply  *reply;
    const char  *password;

    /* as for redis-cli: a command line shows to other users */

    password = getenv("REDISCLI_AUTH");

    if (password) {
        reply = kv_tool_redis_ask(redis, REDIS_REPLY_STATUS, "AUTH %s",
                                  password);
        if (reply == NULL) {
            return KV_ERROR;
        }

        freeReplyObject(reply);
    }

    reply = kv_tool_redis_ask(redis, REDIS_REPLY_STATUS, "SELECT %u",
                              redis->import->db);
    if (reply == NULL) {
        return KV_ERROR;
    }

    freeReplyObject(reply);

    reply = kv_tool_redis_ask(redis, REDIS_REPLY_INTEGER, "DBSIZE");

    if (reply == NULL) {
        return KV_ERROR;
    }

    *keys = (uint64_t) reply->integer;
    freeReplyObject(reply);

    return KV_OK;
}


/* The answer, of that type, for the caller to free; NULL: it was told. */

static redisReply *
kv_tool_redis_ask(kv_tool_redis_t *redis, int type, const char *fmt, ...)
{
    va_list      args;
    redisReply  *reply;

    va_start(args, fmt);
    reply = redisvCommand(redis->conn, fmt, args);
    va_end(args);

    if (reply == NULL) {
        (void) kv_tool_redis_failed(redis);
        return NULL;
    }

    if (reply->type == type) {
        return reply;
    }

    kv_tool_say("Redis at \"%s\" refuses: %s%s", redis->source,
                reply->type == REDIS_REPLY_ERROR ? reply->str
                                                 : "an unexpected answer",
                reply->type == REDIS_REPLY_ERROR
                && strncmp(reply->str, "NOAUTH", 6) == 0
                ? " Set REDISCLI_AUTH to the password." : "");

    freeReplyObject(reply);

    return NULL;
}


static kv_rc_t
kv_tool_redis_scan(kv_tool_redis_t *redis)
{
    char         cursor[32];
    kv_rc_t      rc;
    redisReply  *reply;

    (void) strcpy(cursor, "0");

    do {
        if (kv_tool_stopped()) {
            return KV_CANCELLED;
        }

        reply = kv_tool_redis_ask(redis, REDIS_REPLY_ARRAY,
                                  "SCAN %s COUNT %d", cursor,
                                  KV_TOOL_REDIS_COUNT);
        if (reply == NULL) {
            return KV_ERROR;
        }

        if (reply->elements != 2
            || reply->element[0]->type != REDIS_REPLY_STRING
            || reply->element[0]->len >= sizeof(cursor)
            || reply->element[1]->type != REDIS_REPLY_ARRAY)
        {
            kv_tool_say("Redis at \"%s\" answers SCAN in a form that is not "
                        "known", redis->source);
            rc = KV_ERROR;

        } else {
            (void) strcpy(cursor, reply->element[0]->str);
            rc = kv_tool_redis_keys(redis, reply->element[1]);
        }

        freeReplyObject(reply);

    } while (rc == KV_OK && strcmp(cursor, "0") != 0);

    return rc;
}


static kv_rc_t
kv_tool_redis_keys(kv_tool_redis_t *redis, const redisReply *keys)
{
    size_t       i;
    kv_rc_t      rc;
    redisReply  *key;

    for (i = 0; i < keys->elements; i++) {
        key = keys->element[i];

        if (key->type != REDIS_REPLY_STRING
            || redisAppendCommand(redis->conn, "GET %b", key->str, key->len)
               != REDIS_OK
            || redisAppendCommand(redis->conn, "PTTL %b", key->str, key->len)
               != REDIS_OK)
        {
            return kv_tool_redis_failed(redis);
        }
    }

    for (i = 0; i < keys->elements; i++) {
        rc = kv_tool_redis_key(redis, keys->element[i]);

        if (rc != KV_OK) {
            return rc;
        }

        kv_tool_progress_add(1);
    }

    return KV_OK;
}


/* Takes the two answers about a key. */

static kv_rc_t
kv_tool_redis_key(kv_tool_redis_t *redis, const redisReply *key)
{
    kv_rc_t      rc;
    redisReply  *value, *ttl;

    value = NULL;
    ttl = NULL;

    if (redisGetReply(redis->conn, (void **) &value) != REDIS_OK
        || redisGetReply(redis->conn, (void **) &ttl) != REDIS_OK)
    {
        rc = kv_tool_redis_failed(redis);

    } else if (value->type == REDIS_REPLY_NIL
               || (ttl->type == REDIS_REPLY_INTEGER && ttl->integer == -2))
    {
        /* it was deleted, or has expired, since SCAN gave it */

        rc = KV_OK;

    } else if (value->type == REDIS_REPLY_ERROR
               && strncmp(value->str, "WRONGTYPE", 9) == 0)
    {
        rc = kv_tool_import_refuse(redis->import, key->str, key->len,
                                   "it is no string");

    } else if (value->type != REDIS_REPLY_STRING
               || ttl->type != REDIS_REPLY_INTEGER)
    {
        kv_tool_say("Redis at \"%s\" refuses: %s", redis->source,
                    value->type == REDIS_REPLY_ERROR ? value->str
                    : ttl->type == REDIS_REPLY_ERROR ? ttl->str
                                                     : "an unexpected answer");
        rc = KV_ERROR;

    } else {
        rc = kv_tool_import_put(redis->import, key->str, key->len, value->str,
                                value->len, ttl->integer < 0 ? 0
                                : kv_wall_ms() + (uint64_t) ttl->integer);
    }

    if (value) {
        freeReplyObject(value);
    }

    if (ttl) {
        freeReplyObject(ttl);
    }

    return rc;
}


static kv_rc_t
kv_tool_redis_failed(kv_tool_redis_t *redis)
{
    if (kv_tool_stopped()) {
        return KV_CANCELLED;
    }

    kv_tool_say("the connection to Redis at \"%s\" failed: %s", redis->source,
                redis->conn->errstr[0] ? redis->conn->errstr
                                       : "out of memory");

    return KV_ERROR;
}
