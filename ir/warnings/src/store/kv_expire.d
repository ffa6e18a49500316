ir/warnings/src/store/kv_expire.read: src/store/kv_expire.c
