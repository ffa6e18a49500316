ir/warnings/src/disk/kv_direct.read: src/disk/kv_direct.c
