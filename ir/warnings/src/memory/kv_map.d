ir/warnings/src/memory/kv_map.read: src/memory/kv_map.c
