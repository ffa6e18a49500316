ir/warnings/src/store/kv_state.read: src/store/kv_state.c
