ir/warnings/src/store/kv_background_archive.read: \
  src/store/kv_background_archive.c
