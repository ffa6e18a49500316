ir/warnings/src/disk/kv_snapshot_read.read: \
  src/disk/kv_snapshot_read.c
