ir/warnings/src/disk/kv_archive_keep.read: \
  src/disk/kv_archive_keep.c
