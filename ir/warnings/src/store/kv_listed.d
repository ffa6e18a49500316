ir/warnings/src/store/kv_listed.read: src/store/kv_listed.c
