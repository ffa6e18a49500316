ir/warnings/src/store/kv_store_prefix.read: src/store/kv_store_prefix.c
