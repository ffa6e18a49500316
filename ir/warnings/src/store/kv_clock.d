ir/warnings/src/store/kv_clock.read: src/store/kv_clock.c
