ir/warnings/src/disk/kv_wal_closed.read: \
  src/disk/kv_wal_closed.c
