ir/warnings/src/disk/kv_dir.read: src/disk/kv_dir.c
