ir/warnings/src/disk/kv_snapshot_files.read: \
  src/disk/kv_snapshot_files.c
