ir/warnings/src/disk/kv_wal_spare.read: src/disk/kv_wal_spare.c
