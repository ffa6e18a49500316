ir/warnings/src/index/kv_index_node.read: \
  src/index/kv_index_node.c
