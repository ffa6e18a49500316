ir/warnings/src/disk/kv_wal_tail.read: src/disk/kv_wal_tail.c
