ir/warnings/src/store/kv_store_backup.read: src/store/kv_store_backup.c
