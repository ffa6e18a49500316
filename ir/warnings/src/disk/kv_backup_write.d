ir/warnings/src/disk/kv_backup_write.read: \
  src/disk/kv_backup_write.c
