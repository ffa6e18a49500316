ir/warnings/src/disk/kv_archive.read: src/disk/kv_archive.c
