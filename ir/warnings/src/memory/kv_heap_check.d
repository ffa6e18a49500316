ir/warnings/src/memory/kv_heap_check.read: \
  src/memory/kv_heap_check.c
