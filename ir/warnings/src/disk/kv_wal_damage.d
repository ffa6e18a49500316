ir/warnings/src/disk/kv_wal_damage.read: \
  src/disk/kv_wal_damage.c
