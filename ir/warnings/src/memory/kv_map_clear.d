ir/warnings/src/memory/kv_map_clear.read: \
  src/memory/kv_map_clear.c
