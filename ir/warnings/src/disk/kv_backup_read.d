ir/warnings/src/disk/kv_backup_read.read: \
  src/disk/kv_backup_read.c
