ir/warnings/src/disk/kv_archive_restore.read: \
  src/disk/kv_archive_restore.c
