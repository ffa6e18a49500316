ir/warnings/src/disk/kv_wal_walk.read: src/disk/kv_wal_walk.c
