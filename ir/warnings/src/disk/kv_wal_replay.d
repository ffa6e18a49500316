ir/warnings/src/disk/kv_wal_replay.read: \
  src/disk/kv_wal_replay.c
