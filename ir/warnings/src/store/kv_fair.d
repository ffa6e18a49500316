ir/warnings/src/store/kv_fair.read: src/store/kv_fair.c
