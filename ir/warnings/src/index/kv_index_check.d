ir/warnings/src/index/kv_index_check.read: \
  src/index/kv_index_check.c
