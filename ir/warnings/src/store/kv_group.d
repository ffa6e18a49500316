ir/warnings/src/store/kv_group.read: src/store/kv_group.c
