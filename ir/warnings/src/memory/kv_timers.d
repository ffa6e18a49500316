ir/warnings/src/memory/kv_timers.read: src/memory/kv_timers.c
