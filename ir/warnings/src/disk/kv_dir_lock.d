ir/warnings/src/disk/kv_dir_lock.read: src/disk/kv_dir_lock.c
