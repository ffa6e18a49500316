ir/warnings/src/index/kv_index.read: src/index/kv_index.c
