ir/warnings/src/disk/kv_wal_read.read: src/disk/kv_wal_read.c
