ir/warnings/src/disk/kv_dir_files.read: src/disk/kv_dir_files.c
