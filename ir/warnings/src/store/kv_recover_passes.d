ir/warnings/src/store/kv_recover_passes.read: \
  src/store/kv_recover_passes.c
