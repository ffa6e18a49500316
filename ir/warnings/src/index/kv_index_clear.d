ir/warnings/src/index/kv_index_clear.read: \
  src/index/kv_index_clear.c
