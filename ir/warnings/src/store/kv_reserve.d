ir/warnings/src/store/kv_reserve.read: src/store/kv_reserve.c
