ir/kv_expire.o: src/store/kv_expire.c src/store/kv_expire.h \
  src/store/kv_batch.h src/store/kv_await.h src/store/kv_handle.h \
  src/store/kv_store_private.h src/store/kv_state.h src/store/kv_zone.h \
  src/base/kv_measure.h src/base/kv_base.h src/disk/kv_wal.h \
  src/disk/kv_io.h src/disk/kv_record.h src/base/kv_opcode.h \
  src/disk/kv_format.h src/index/kv_index.h src/memory/kv_epoch.h \
  src/memory/kv_worker.h src/memory/kv_entry.h src/memory/kv_heap.h \
  src/base/kv_mutex.h src/memory/kv_map.h src/base/kv_hash.h \
  src/memory/kv_timers.h src/store/kv_store.h src/store/kv_store_dir.h \
  src/disk/kv_dir.h src/store/kv_version.h src/store/kv_decide.h \
  src/store/kv_clock.h src/store/kv_listed.h src/store/kv_progress.h \
  src/store/kv_timeout.h src/base/kv_failpoint.h

src/store/kv_expire.h:

src/store/kv_batch.h:

src/store/kv_await.h:

src/store/kv_handle.h:

src/store/kv_store_private.h:

src/store/kv_state.h:

src/store/kv_zone.h:

src/base/kv_measure.h:

src/base/kv_base.h:

src/disk/kv_wal.h:

src/disk/kv_io.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:

src/index/kv_index.h:

src/memory/kv_epoch.h:

src/memory/kv_worker.h:

src/memory/kv_entry.h:

src/memory/kv_heap.h:

src/base/kv_mutex.h:

src/memory/kv_map.h:

src/base/kv_hash.h:

src/memory/kv_timers.h:

src/store/kv_store.h:

src/store/kv_store_dir.h:

src/disk/kv_dir.h:

src/store/kv_version.h:

src/store/kv_decide.h:

src/store/kv_clock.h:

src/store/kv_listed.h:

src/store/kv_progress.h:

src/store/kv_timeout.h:

src/base/kv_failpoint.h:
