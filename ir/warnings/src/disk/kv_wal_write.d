ir/warnings/src/disk/kv_wal_write.read: src/disk/kv_wal_write.c
