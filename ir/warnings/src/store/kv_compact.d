ir/warnings/src/store/kv_compact.read: src/store/kv_compact.c
