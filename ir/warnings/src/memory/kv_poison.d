ir/warnings/src/memory/kv_poison.read: src/memory/kv_poison.c
