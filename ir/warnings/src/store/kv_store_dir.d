ir/warnings/src/store/kv_store_dir.read: \
  src/store/kv_store_dir.c
