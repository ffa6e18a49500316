ir/warnings/src/store/kv_decide.read: src/store/kv_decide.c
