ir/warnings/src/memory/kv_map_split.read: \
  src/memory/kv_map_split.c
