ir/warnings/src/memory/kv_heap_evac.read: \
  src/memory/kv_heap_evac.c
