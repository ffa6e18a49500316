ir/warnings/src/store/kv_hold.read: src/store/kv_hold.c
