ir/warnings/src/index/kv_index_inner.read: \
  src/index/kv_index_inner.c
