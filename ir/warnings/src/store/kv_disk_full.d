ir/warnings/src/store/kv_disk_full.read: \
  src/store/kv_disk_full.c
