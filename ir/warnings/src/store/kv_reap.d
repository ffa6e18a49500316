ir/warnings/src/store/kv_reap.read: src/store/kv_reap.c
