ir/warnings/src/store/kv_background.read: \
  src/store/kv_background.c
