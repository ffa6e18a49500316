ir/warnings/src/memory/kv_epoch.read: src/memory/kv_epoch.c
