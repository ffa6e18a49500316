ir/warnings/src/store/kv_sweep.read: src/store/kv_sweep.c
