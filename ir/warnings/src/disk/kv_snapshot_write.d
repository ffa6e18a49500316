ir/warnings/src/disk/kv_snapshot_write.read: \
  src/disk/kv_snapshot_write.c
