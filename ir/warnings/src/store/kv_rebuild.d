ir/warnings/src/store/kv_rebuild.read: src/store/kv_rebuild.c
