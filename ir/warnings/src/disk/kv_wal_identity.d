ir/warnings/src/disk/kv_wal_identity.read: \
  src/disk/kv_wal_identity.c
