ir/warnings/src/disk/kv_wal_files.read: src/disk/kv_wal_files.c
