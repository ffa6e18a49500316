ir/warnings/src/store/kv_batch.read: src/store/kv_batch.c
