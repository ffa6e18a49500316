ir/warnings/src/disk/kv_start.read: src/disk/kv_start.c
