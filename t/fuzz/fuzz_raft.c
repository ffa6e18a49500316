
/*
 * kv_raft_frame_read() on any bytes, and kv_raft_message_check() on what it
 * takes.
 *
 * What must hold: nothing behind the bytes is read; what is taken has this one
 * form as bytes; and AppendEntries that are cut into pieces at any entry have
 * the same entries in the end.
 */


#include "fuzz.h"
#include "raft/kv_raft_frame.h"


static void raft_check_pieces(const kv_raft_message_t *m, size_t max);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t            *p;
    unsigned            n, none;
    kv_raft_message_t   m;

    if (kv_raft_frame_read(data, size, &m) != KV_OK) {
        fuzz_check(m.entries == NULL && m.conf == NULL);
        return 0;
    }

    fuzz_check(kv_raft_frame_size(&m, 0, SIZE_MAX, &n) == size);
    fuzz_check(kv_raft_frame_size(&m, 0, size, &n) == size);
    fuzz_check(kv_raft_frame_size(&m, 0, size - 1, &none) < size);
    fuzz_check(kv_raft_frame_size(&m, 0, KV_RAFT_FRAME_HEAD - 1, &none) == 0);

    p = malloc(size);
    fuzz_check(p);
    kv_raft_frame_write(&m, 0, n, p);
    fuzz_check(memcmp(p, data, size) == 0);
    free(p);

    (void) kv_raft_message_check(&m);

    if (m.m.type == RAFT_APPEND_ENTRIES) {
        raft_check_pieces(&m, KV_RAFT_FRAME_HEAD + size / 2);
        raft_check_pieces(&m, KV_RAFT_FRAME_HEAD + KV_RAFT_FRAME_ENTRY);
    }

    kv_raft_message_drop(&m);

    return 0;
}


static void
raft_check_pieces(const kv_raft_message_t *m, size_t max)
{
    size_t              size;
    uint8_t            *p;
    unsigned            i, n, first;
    kv_raft_entry_t    *a, *b;
    kv_raft_message_t   piece;

    for (first = 0; first < m->m.append_entries.n_entries; first += n) {
        size = kv_raft_frame_size(m, first, max, &n);

        if (size == 0) {
            fuzz_check(KV_RAFT_FRAME_HEAD + KV_RAFT_FRAME_ENTRY
                       + m->entries[first]->len > max);
            return;
        }

        fuzz_check(n >= 1 && size <= max);
        p = malloc(size);
        fuzz_check(p);
        kv_raft_frame_write(m, first, n, p);
        fuzz_check(kv_raft_frame_read(p, size, &piece) == KV_OK);
        fuzz_check(piece.m.append_entries.n_entries == n);
        fuzz_check(piece.m.append_entries.prev_log_index
                   == m->m.append_entries.prev_log_index + first);
        fuzz_check(first == 0 || piece.m.append_entries.prev_log_term
                                 == m->entries[first - 1]->term);

        for (i = 0; i < n; i++) {
            a = m->entries[first + i];
            b = piece.entries[i];
            fuzz_check(a->term == b->term && a->type == b->type
                       && a->len == b->len
                       && memcmp(a->data, b->data, a->len) == 0);
        }

        kv_raft_message_drop(&piece);
        free(p);
    }
}
