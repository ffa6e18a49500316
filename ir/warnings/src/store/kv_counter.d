ir/warnings/src/store/kv_counter.read: src/store/kv_counter.c
