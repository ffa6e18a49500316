ir/warnings/src/store/kv_timeout.read: src/store/kv_timeout.c
