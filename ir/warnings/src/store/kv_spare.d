ir/warnings/src/store/kv_spare.read: src/store/kv_spare.c
