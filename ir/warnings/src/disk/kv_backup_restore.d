ir/warnings/src/disk/kv_backup_restore.read: \
  src/disk/kv_backup_restore.c
