ir/warnings/src/disk/kv_io.read: src/disk/kv_io.c
