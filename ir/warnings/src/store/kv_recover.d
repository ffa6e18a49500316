ir/warnings/src/store/kv_recover.read: src/store/kv_recover.c
