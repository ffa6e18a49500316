ir/warnings/src/index/kv_index_change.read: \
  src/index/kv_index_change.c
