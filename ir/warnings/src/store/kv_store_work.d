ir/warnings/src/store/kv_store_work.read: src/store/kv_store_work.c
