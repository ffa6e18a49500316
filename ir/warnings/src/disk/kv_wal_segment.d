ir/warnings/src/disk/kv_wal_segment.read: \
  src/disk/kv_wal_segment.c
