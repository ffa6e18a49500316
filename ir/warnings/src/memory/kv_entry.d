ir/warnings/src/memory/kv_entry.read: src/memory/kv_entry.c
