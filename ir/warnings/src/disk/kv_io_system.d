ir/warnings/src/disk/kv_io_system.read: src/disk/kv_io_system.c
