ir/warnings/src/store/kv_evict.read: src/store/kv_evict.c
