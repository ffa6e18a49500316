ir/warnings/src/disk/kv_dir_owner.read: src/disk/kv_dir_owner.c
