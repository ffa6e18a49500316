
/*
 * What this node of a cluster is; see kv_node.h.
 */


#include <stdlib.h>

#include "store/kv_node.h"
#include "store/kv_store_private.h"


#define KV_NODE_WORDS  ((KV_ADDRESS_MAX + 1) / sizeof(uint64_t))


_Static_assert((KV_ADDRESS_MAX + 1) % sizeof(uint64_t) == 0,
               "an address is whole words");


static bool kv_node_over(const kv_node_copy_t *copy, uint64_t now_ns);
static bool kv_node_said(kv_cluster_info_t *info);


void
kv_node_publish(kv_node_t *node, kv_role_t role, uint64_t term,
    const char *leader, uint64_t until_ns)
{
    size_t           i, n;
    uint64_t         words[KV_NODE_WORDS], published;
    kv_node_copy_t  *copy;

    n = leader ? strlen(leader) : 0;

    assert(n <= KV_ADDRESS_MAX);
    assert(role != KV_ROLE_LEADER || n > 0);

    memset(words, 0, sizeof(words));
    memcpy(words, leader ? leader : "", n);

    published = atomic_load(&node->published);
    copy = &node->copy[(published + 1) % 2];

    atomic_store(&copy->role, role);
    atomic_store(&copy->term, term);
    atomic_store(&copy->until_ns, until_ns);

    for (i = 0; i < KV_NODE_WORDS; i++) {
        atomic_store(&copy->leader[i], words[i]);
    }

    atomic_store(&node->published, published + 1);
}


void
kv_node_read(const kv_node_t *node, uint64_t now_ns, kv_cluster_info_t *info)
{
    bool                   over;
    size_t                 i;
    uint64_t               words[KV_NODE_WORDS], published;
    const kv_node_copy_t  *copy;

    do {
        published = atomic_load(&node->published);
        copy = &node->copy[published % 2];

        info->role = (kv_role_t) atomic_load(&copy->role);
        info->term = atomic_load(&copy->term);
        over = kv_node_over(copy, now_ns);

        for (i = 0; i < KV_NODE_WORDS; i++) {
            words[i] = atomic_load(&copy->leader[i]);
        }

    } while (atomic_load(&node->published) != published);

    memcpy(info->leader, words, sizeof(words));

    if (over) {
        info->leader[0] = '\0';

        if (info->role == KV_ROLE_LEADER) {
            info->role = KV_ROLE_FOLLOWER;
        }
    }
}


bool
kv_node_leads(const kv_node_t *node, uint64_t now_ns)
{
    bool                   leads;
    uint64_t               published;
    const kv_node_copy_t  *copy;

    do {
        published = atomic_load(&node->published);
        copy = &node->copy[published % 2];

        leads = atomic_load(&copy->role) == KV_ROLE_LEADER
                && !kv_node_over(copy, now_ns);

    } while (atomic_load(&node->published) != published);

    return leads;
}


static bool
kv_node_over(const kv_node_copy_t *copy, uint64_t now_ns)
{
    uint64_t  until_ns;

    until_ns = atomic_load(&copy->until_ns);

    return until_ns && now_ns >= until_ns;
}


kv_rc_t
kv_store_cluster_info(kv_store_t *store, kv_cluster_info_t *info)
{
    if (store->conf.cluster == NULL) {
        return KV_DECLINED;
    }

    if (!kv_node_said(info)) {
        kv_node_read(&store->zone->node, kv_now_ns(), info);
    }

    return KV_OK;
}


bool
kv_store_leads(kv_store_t *store)
{
    kv_cluster_info_t  info;

    if (store->conf.npeers == 0) {
        return true;
    }

    return kv_node_said(&info) ? info.role == KV_ROLE_LEADER
                               : kv_node_leads(&store->zone->node,
                                               kv_now_ns());
}


/*
 * In builds for tests a file can say what the node is, instead of its host:
 * "ROLE TERM LEADER", the role as its number, in KV_FAILPOINT_DIR, which is
 * kept before nginx clears the environment of its workers.
 */

#ifdef KV_TEST_FAILPOINTS

static char  kv_node_file[512];


static void __attribute__((constructor))
kv_node_init(void)
{
    const char  *dir;

    dir = getenv("KV_FAILPOINT_DIR");

    if (dir) {
        (void) snprintf(kv_node_file, sizeof(kv_node_file), "%s/node", dir);
    }
}


static bool
kv_node_said(kv_cluster_info_t *info)
{
    int                 n;
    FILE               *file;
    unsigned            role;
    unsigned long long  term;

    file = kv_node_file[0] ? fopen(kv_node_file, "re") : NULL;

    if (file == NULL) {
        return false;
    }

    memset(info, 0, sizeof(kv_cluster_info_t));

    n = fscanf(file, "%u %llu %263s", &role, &term, info->leader);

    (void) fclose(file);

    info->role = (kv_role_t) role;
    info->term = term;

    return n >= 2;
}

#else

static bool
kv_node_said(kv_cluster_info_t *info)
{
    (void) info;

    return false;
}

#endif
