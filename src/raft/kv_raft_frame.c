
/*
 * Messages as bytes; see kv_raft_frame.h.
 */


#include "raft/kv_raft_frame.h"


#define KV_RAFT_FRAME_VERSION  1

#define KV_RAFT_FRAME_FIRST    1       /* disrupt_leader, vote_granted */
#define KV_RAFT_FRAME_PRE      2       /* pre_vote */


/* The head of a message, but for its number of entries. */

typedef struct {
    unsigned        type;
    unsigned        version;
    unsigned        flags;
    uint64_t        from;
    uint64_t        to;
    uint64_t        term;
    uint64_t        a;
    uint64_t        b;
    uint64_t        c;
    uint64_t        d;
} kv_raft_frame_t;


static unsigned char *kv_raft_frame_put_head(unsigned char *p,
    const kv_raft_frame_t *f, unsigned n);
static unsigned kv_raft_frame_entries(const kv_raft_message_t *m);
static const kv_raft_entry_t *kv_raft_frame_entry(const kv_raft_message_t *m,
    unsigned i);
static void kv_raft_frame_fill(kv_raft_frame_t *f, const kv_raft_message_t *m);
static void kv_raft_frame_fill_vote(kv_raft_frame_t *f,
    const kv_raft_message_t *m);
static kv_rc_t kv_raft_frame_take(const kv_raft_frame_t *f,
    kv_raft_message_t *m);
static void kv_raft_frame_take_vote(const kv_raft_frame_t *f,
    kv_raft_message_t *m);
static kv_rc_t kv_raft_frame_take_entries(const unsigned char *p, size_t len,
    unsigned n, kv_raft_message_t *m);
static kv_raft_entry_t *kv_raft_frame_take_entry(const unsigned char **p,
    size_t *len);


static unsigned char *
kv_raft_frame_put(unsigned char *p, uint64_t value, unsigned bytes)
{
    unsigned  i;

    for (i = 0; i < bytes; i++) {
        *p++ = (unsigned char) (value >> 8 * i);
    }

    return p;
}


static uint64_t
kv_raft_frame_get(const unsigned char *p, unsigned bytes)
{
    uint64_t  value;

    for (value = 0; bytes > 0; bytes--) {
        value = value << 8 | p[bytes - 1];
    }

    return value;
}


size_t
kv_raft_frame_size(const kv_raft_message_t *m, unsigned first, size_t max,
    unsigned *n)
{
    size_t    size, more;
    unsigned  i, end;

    size = KV_RAFT_FRAME_HEAD;
    end = kv_raft_frame_entries(m);

    for (i = first; i < end; i++) {
        more = KV_RAFT_FRAME_ENTRY + kv_raft_frame_entry(m, i)->len;

        if (size > max || more > max - size) {
            break;
        }

        size += more;
    }

    *n = i - first;

    return size > max || (*n == 0 && first < end) ? 0 : size;
}


void
kv_raft_frame_write(const kv_raft_message_t *m, unsigned first, unsigned n,
    void *buf)
{
    unsigned                i;
    unsigned char          *p;
    kv_raft_frame_t         f;
    const kv_raft_entry_t  *e;

    kv_raft_frame_fill(&f, m);

    if (first) {
        f.a += first;
        f.b = m->entries[first - 1]->term;
    }

    p = kv_raft_frame_put_head(buf, &f, n);

    for (i = first; i < first + n; i++) {
        e = kv_raft_frame_entry(m, i);

        p = kv_raft_frame_put(p, e->term, 8);
        p = kv_raft_frame_put(p, e->len, 4);
        p = kv_raft_frame_put(p, e->type, 1);
        p = kv_raft_frame_put(p, 0, 3);

        memcpy(p, e->data, e->len);
        p += e->len;
    }
}


static unsigned char *
kv_raft_frame_put_head(unsigned char *p, const kv_raft_frame_t *f, unsigned n)
{
    p = kv_raft_frame_put(p, KV_RAFT_FRAME_VERSION, 1);
    p = kv_raft_frame_put(p, f->type, 1);
    p = kv_raft_frame_put(p, f->version, 1);
    p = kv_raft_frame_put(p, f->flags, 1);
    p = kv_raft_frame_put(p, n, 4);
    p = kv_raft_frame_put(p, f->from, 8);
    p = kv_raft_frame_put(p, f->to, 8);
    p = kv_raft_frame_put(p, f->term, 8);
    p = kv_raft_frame_put(p, f->a, 8);
    p = kv_raft_frame_put(p, f->b, 8);
    p = kv_raft_frame_put(p, f->c, 8);

    return kv_raft_frame_put(p, f->d, 8);
}


static unsigned
kv_raft_frame_entries(const kv_raft_message_t *m)
{
    switch (m->m.type) {

    case RAFT_APPEND_ENTRIES:
        return m->m.append_entries.n_entries;

    case RAFT_INSTALL_SNAPSHOT:
        return 1;

    default:
        return 0;
    }
}


static const kv_raft_entry_t *
kv_raft_frame_entry(const kv_raft_message_t *m, unsigned i)
{
    const kv_raft_entry_t  *e;

    e = m->m.type == RAFT_APPEND_ENTRIES ? m->entries[i] : m->conf;

    assert(e->len <= UINT32_MAX);

    return e;
}


static void
kv_raft_frame_fill(kv_raft_frame_t *f, const kv_raft_message_t *m)
{
    const struct raft_timeout_now            *now;
    const struct raft_append_entries         *append;
    const struct raft_install_snapshot       *install;
    const struct raft_append_entries_result  *appended;

    memset(f, 0, sizeof(*f));

    f->type = m->m.type;
    f->from = m->from;
    f->to = m->to;
    f->term = kv_raft_message_term(m);

    switch (m->m.type) {

    case RAFT_APPEND_ENTRIES:
        append = &m->m.append_entries;
        f->version = append->version;
        f->a = append->prev_log_index;
        f->b = append->prev_log_term;
        f->c = append->leader_commit;
        f->d = m->stamp;
        break;

    case RAFT_APPEND_ENTRIES_RESULT:
        appended = &m->m.append_entries_result;
        f->version = appended->version;
        f->a = appended->rejected;
        f->b = appended->last_log_index;
        f->c = appended->features | (uint64_t) appended->capacity << 16;
        f->d = m->stamp;
        break;

    case RAFT_REQUEST_VOTE:
    case RAFT_REQUEST_VOTE_RESULT:
        kv_raft_frame_fill_vote(f, m);
        break;

    case RAFT_INSTALL_SNAPSHOT:
        install = &m->m.install_snapshot;
        f->version = install->version;
        f->a = install->last_index;
        f->b = install->last_term;
        f->c = install->conf_index;
        f->d = m->handle;
        break;

    case RAFT_TIMEOUT_NOW:
        now = &m->m.timeout_now;
        f->version = now->version;
        f->a = now->last_log_index;
        f->b = now->last_log_term;
        break;
    }
}


static void
kv_raft_frame_fill_vote(kv_raft_frame_t *f, const kv_raft_message_t *m)
{
    bool                                    first, pre;
    const struct raft_request_vote         *vote;
    const struct raft_request_vote_result  *voted;

    if (m->m.type == RAFT_REQUEST_VOTE) {
        vote = &m->m.request_vote;
        assert(vote->candidate_id == m->from);
        f->version = vote->version;
        f->a = vote->last_log_index;
        f->b = vote->last_log_term;
        first = vote->disrupt_leader;
        pre = vote->pre_vote;

    } else {
        voted = &m->m.request_vote_result;
        f->version = voted->version;
        f->c = voted->features | (uint64_t) voted->capacity << 16;
        first = voted->vote_granted;
        pre = voted->pre_vote;
    }

    f->flags = (first ? KV_RAFT_FRAME_FIRST : 0)
               | (pre ? KV_RAFT_FRAME_PRE : 0);
}


kv_rc_t
kv_raft_frame_read(const void *data, size_t len, kv_raft_message_t *m)
{
    unsigned              n;
    unsigned char         head[KV_RAFT_FRAME_HEAD];
    kv_raft_frame_t       f;
    const unsigned char  *p;

    p = data;
    memset(m, 0, sizeof(*m));

    if (len < KV_RAFT_FRAME_HEAD) {
        return KV_DAMAGED;
    }

    n = (unsigned) kv_raft_frame_get(p + 4, 4);

    f.type = p[1];
    f.version = p[2];
    f.flags = p[3];
    f.from = kv_raft_frame_get(p + 8, 8);
    f.to = kv_raft_frame_get(p + 16, 8);
    f.term = kv_raft_frame_get(p + 24, 8);
    f.a = kv_raft_frame_get(p + 32, 8);
    f.b = kv_raft_frame_get(p + 40, 8);
    f.c = kv_raft_frame_get(p + 48, 8);
    f.d = kv_raft_frame_get(p + 56, 8);

    if (kv_raft_frame_take(&f, m) != KV_OK) {
        return KV_DAMAGED;
    }

    /* what it means has one form, which this must be */

    kv_raft_frame_fill(&f, m);
    (void) kv_raft_frame_put_head(head, &f, n);

    if (memcmp(head, p, sizeof(head)) != 0) {
        return KV_DAMAGED;
    }

    return kv_raft_frame_take_entries(p + sizeof(head), len - sizeof(head), n,
                                      m);
}


static kv_rc_t
kv_raft_frame_take(const kv_raft_frame_t *f, kv_raft_message_t *m)
{
    struct raft_timeout_now            *now;
    struct raft_append_entries         *append;
    struct raft_install_snapshot       *install;
    struct raft_append_entries_result  *appended;

    m->from = f->from;
    m->to = f->to;
    m->m.type = f->type;
    m->m.server_id = f->from;

    switch (f->type) {

    case RAFT_APPEND_ENTRIES:
        append = &m->m.append_entries;
        append->version = (unsigned char) f->version;
        append->term = f->term;
        append->prev_log_index = f->a;
        append->prev_log_term = f->b;
        append->leader_commit = f->c;
        m->stamp = f->d;
        return KV_OK;

    case RAFT_APPEND_ENTRIES_RESULT:
        appended = &m->m.append_entries_result;
        appended->version = (unsigned char) f->version;
        appended->term = f->term;
        appended->rejected = f->a;
        appended->last_log_index = f->b;
        appended->features = (unsigned short) f->c;
        appended->capacity = (unsigned short) (f->c >> 16);
        m->stamp = f->d;
        return KV_OK;

    case RAFT_REQUEST_VOTE:
    case RAFT_REQUEST_VOTE_RESULT:
        kv_raft_frame_take_vote(f, m);
        return KV_OK;

    case RAFT_INSTALL_SNAPSHOT:
        install = &m->m.install_snapshot;
        install->version = (unsigned char) f->version;
        install->term = f->term;
        install->last_index = f->a;
        install->last_term = f->b;
        install->conf_index = f->c;
        m->handle = f->d;
        return KV_OK;

    case RAFT_TIMEOUT_NOW:
        now = &m->m.timeout_now;
        now->version = (unsigned char) f->version;
        now->term = f->term;
        now->last_log_index = f->a;
        now->last_log_term = f->b;
        return KV_OK;
    }

    return KV_DAMAGED;
}


static void
kv_raft_frame_take_vote(const kv_raft_frame_t *f, kv_raft_message_t *m)
{
    bool                              first, pre;
    struct raft_request_vote         *vote;
    struct raft_request_vote_result  *voted;

    first = f->flags & KV_RAFT_FRAME_FIRST;
    pre = f->flags & KV_RAFT_FRAME_PRE;

    if (f->type == RAFT_REQUEST_VOTE) {
        vote = &m->m.request_vote;
        vote->version = (unsigned char) f->version;
        vote->term = f->term;
        vote->candidate_id = f->from;
        vote->last_log_index = f->a;
        vote->last_log_term = f->b;
        vote->disrupt_leader = first;
        vote->pre_vote = pre;

    } else {
        voted = &m->m.request_vote_result;
        voted->version = (unsigned char) f->version;
        voted->term = f->term;
        voted->vote_granted = first;
        voted->pre_vote = pre;
        voted->features = (unsigned short) f->c;
        voted->capacity = (unsigned short) (f->c >> 16);
    }
}


/* Room is made for no more entries than there are bytes for. */

static kv_rc_t
kv_raft_frame_take_entries(const unsigned char *p, size_t len, unsigned n,
    kv_raft_message_t *m)
{
    unsigned          i;
    kv_raft_entry_t  *e;

    if (n > len / KV_RAFT_FRAME_ENTRY
        || (m->m.type == RAFT_INSTALL_SNAPSHOT && n != 1)
        || (m->m.type != RAFT_INSTALL_SNAPSHOT
            && m->m.type != RAFT_APPEND_ENTRIES && n != 0))
    {
        return KV_DAMAGED;
    }

    if (m->m.type == RAFT_APPEND_ENTRIES && n) {
        m->entries = kv_raft_alloc(n * sizeof(*m->entries));
    }

    for (i = 0; i < n; i++) {
        e = kv_raft_frame_take_entry(&p, &len);

        if (e == NULL) {
            break;
        }

        if (m->m.type == RAFT_INSTALL_SNAPSHOT) {
            m->conf = e;

        } else {
            m->entries[m->m.append_entries.n_entries++] = e;
        }
    }

    if (i < n || len) {
        kv_raft_message_drop(m);
        memset(m, 0, sizeof(*m));
        return KV_DAMAGED;
    }

    return KV_OK;
}


static kv_raft_entry_t *
kv_raft_frame_take_entry(const unsigned char **p, size_t *len)
{
    size_t            size;
    kv_raft_entry_t  *e;

    if (*len < KV_RAFT_FRAME_ENTRY) {
        return NULL;
    }

    size = kv_raft_frame_get(*p + 8, 4);

    if (size > *len - KV_RAFT_FRAME_ENTRY
        || kv_raft_frame_get(*p + 13, 3) != 0)
    {
        return NULL;
    }

    e = kv_raft_entry_make(kv_raft_frame_get(*p, 8), (*p)[12],
                           *p + KV_RAFT_FRAME_ENTRY, size);

    *p += KV_RAFT_FRAME_ENTRY + size;
    *len -= KV_RAFT_FRAME_ENTRY + size;

    return e;
}
