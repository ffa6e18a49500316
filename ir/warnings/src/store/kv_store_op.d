ir/warnings/src/store/kv_store_op.read: src/store/kv_store_op.c
