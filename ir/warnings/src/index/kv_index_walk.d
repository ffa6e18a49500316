ir/warnings/src/index/kv_index_walk.read: \
  src/index/kv_index_walk.c
