ir/warnings/src/store/kv_missing.read: src/store/kv_missing.c
