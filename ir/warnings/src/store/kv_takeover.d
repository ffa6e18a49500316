ir/warnings/src/store/kv_takeover.read: src/store/kv_takeover.c
