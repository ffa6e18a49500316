ir/warnings/src/store/kv_background_snapshot.read: \
  src/store/kv_background_snapshot.c
