ir/warnings/src/store/kv_committer.read: \
  src/store/kv_committer.c
