ir/warnings/src/index/kv_index_move.read: \
  src/index/kv_index_move.c
