ir/warnings/src/index/kv_index_leaf.read: \
  src/index/kv_index_leaf.c
