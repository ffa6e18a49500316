ir/warnings/src/store/kv_store.read: src/store/kv_store.c
