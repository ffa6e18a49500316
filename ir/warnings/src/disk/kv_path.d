ir/warnings/src/disk/kv_path.read: src/disk/kv_path.c
