# Builds the unit tests of the store core; scripts/test.sh runs them. From the
# top of the project:
#
#     make -f scripts/unit.mk DIR=.build/unit-asan SANITIZE=address,undefined
#
# makes DIR/test_NAME of every program in the list, or of those in TESTS. The
# helpers and the core, which knows nothing of nginx, are one archive, of which
# each test is linked with what it uses; with RAFT=FOLDER, as scripts/raft.sh
# says it, also src/raft, and the library there.

DIR      ?= .build/unit-asan
SANITIZE ?= address,undefined

# One a line, in order, as scripts/lint.sh wants it of every list.
PROGRAMS := \
    t/unit/test_allocations.c \
    t/unit/test_archive.c \
    t/unit/test_archive_power.c \
    t/unit/test_await.c \
    t/unit/test_backup.c \
    t/unit/test_condition.c \
    t/unit/test_counter.c \
    t/unit/test_crc32c.c \
    t/unit/test_damage_aside.c \
    t/unit/test_damage_bytes.c \
    t/unit/test_damage_files.c \
    t/unit/test_death_anywhere.c \
    t/unit/test_death_await.c \
    t/unit/test_death_condition.c \
    t/unit/test_death_failpoints.c \
    t/unit/test_death_group.c \
    t/unit/test_death_held.c \
    t/unit/test_dictionary.c \
    t/unit/test_dir.c \
    t/unit/test_direct.c \
    t/unit/test_disk_full.c \
    t/unit/test_entry.c \
    t/unit/test_expire.c \
    t/unit/test_expire_power.c \
    t/unit/test_failpoint.c \
    t/unit/test_faults.c \
    t/unit/test_feed.c \
    t/unit/test_group.c \
    t/unit/test_heap_alloc.c \
    t/unit/test_heap_check.c \
    t/unit/test_heap_death.c \
    t/unit/test_heap_evac.c \
    t/unit/test_host.c \
    t/unit/test_identity.c \
    t/unit/test_index.c \
    t/unit/test_index_readers.c \
    t/unit/test_io.c \
    t/unit/test_line.c \
    t/unit/test_map_damage.c \
    t/unit/test_map_growth.c \
    t/unit/test_map_readers.c \
    t/unit/test_meta.c \
    t/unit/test_mutex.c \
    t/unit/test_net.c \
    t/unit/test_net_hostile.c \
    t/unit/test_node.c \
    t/unit/test_nodes.c \
    t/unit/test_power.c \
    t/unit/test_prefault.c \
    t/unit/test_prefix.c \
    t/unit/test_progress.c \
    t/unit/test_queue.c \
    t/unit/test_quota.c \
    t/unit/test_record.c \
    t/unit/test_replica.c \
    t/unit/test_snapshot_disk.c \
    t/unit/test_snapshot_files.c \
    t/unit/test_snapshot_format.c \
    t/unit/test_state.c \
    t/unit/test_store_clear.c \
    t/unit/test_store_commit.c \
    t/unit/test_store_figures.c \
    t/unit/test_store_full.c \
    t/unit/test_store_full_start.c \
    t/unit/test_store_generations.c \
    t/unit/test_store_handle.c \
    t/unit/test_store_readers.c \
    t/unit/test_store_restart.c \
    t/unit/test_store_snapshot.c \
    t/unit/test_system_faults.c \
    t/unit/test_tag.c \
    t/unit/test_timers.c \
    t/unit/test_tool_keys.c \
    t/unit/test_tool_moment.c \
    t/unit/test_versions.c \
    t/unit/test_wal_damage.c \
    t/unit/test_wal_disk.c \
    t/unit/test_wal_processes.c \
    t/unit/test_wal_replay.c \
    t/unit/test_wal_replica.c \
    t/unit/test_wal_replica_copy.c \
    t/unit/test_wal_replica_damage.c \
    t/unit/test_wal_replica_power.c \
    t/unit/test_wal_tail.c \
    t/unit/test_wal_truncate.c \
    t/unit/test_wal_write.c \
    t/unit/test_watch.c \
    t/unit/test_watch_again.c

HELPERS  := \
    t/unit/damage_dir.c \
    t/unit/damage_rig.c \
    t/unit/death_contest.c \
    t/unit/death_rig.c \
    t/unit/death_worker.c \
    t/unit/disk.c \
    t/unit/filter.c \
    t/unit/heap_rig.c \
    t/unit/index_rig.c \
    t/unit/kit.c \
    t/unit/map_rig.c \
    t/unit/net_rig.c \
    t/unit/ram.c \
    t/unit/replica_rig.c \
    t/unit/snap_rig.c \
    t/unit/solo.c \
    t/unit/store_rig.c \
    t/unit/wal_rig.c \
    t/unit/wal_rig_disk.c

TESTS    ?= $(basename $(notdir $(PROGRAMS)))

# Lines and functions are what a sanitizer's report names; a debugger is helped
# by KV_CFLAGS=-g.
CFLAGS   := -std=gnu11 -O1 -g1 -fno-omit-frame-pointer -pthread \
            -Wall -Wextra -Werror -Isrc -It/unit -DKV_TEST_FAILPOINTS \
            -DKV_POISON $(if $(SANITIZE),-fsanitize=$(SANITIZE) \
            -fno-sanitize-recover=all) $(KV_CFLAGS)

OBJ      := $(DIR)

comma    := ,

include scripts/common.mk

# Of the tool, whose list is in tool.mk, what has a test of its own.
TOOL     := \
    src/tool/kv_tool_keys.c \
    src/tool/kv_tool_moment.c

SHARED   := $(patsubst %.c,$(DIR)/%.o,$(notdir $(CORE) $(LINES) $(TOOL) \
            $(HELPERS)))

vpath %.c t/unit src/tool

all: $(addprefix $(DIR)/,$(TESTS))

# What runs once need not be fast, but it is a third of all that is compiled.
$(DIR)/test_%.o: INCLUDES = -O0

$(DIR)/test_%: $(DIR)/test_%.o $(DIR)/filter.o $(DIR)/shared.a
	$(CC) $(CFLAGS) -o $@.new $^ $(LIBRAFT) -lcmocka -lcrypto $(LIBS) \
	    $(WRAP) $(KV_LDFLAGS)
	mv $@.new $@

$(DIR)/shared.a: $(SHARED)
	rm -f $@.new
	$(AR) rc $@.new $^
	mv $@.new $@

$(DIR)/test_line: LIBS = -ljansson

# Its allocations fail to order, and it does not sleep.
$(DIR)/test_allocations: WRAP = $(addprefix -Wl$(comma)--wrap=,kv_heap_alloc \
    kv_heap_alloc_leave malloc calloc realloc kv_heap_lock kv_heap_lock_read \
    clock_gettime nanosleep)

# Nodes find no memory to order.
$(DIR)/test_index $(DIR)/test_index_readers: WRAP = -Wl,--wrap=kv_heap_alloc

# Their time is the test's.
$(DIR)/test_expire $(DIR)/test_expire_power $(DIR)/test_progress: \
    WRAP = -Wl,--wrap=clock_gettime

# One of its readers leaves just in time.
$(DIR)/test_map_readers: WRAP = -Wl,--wrap=kv_epoch_oldest

# It counts what is done between two looks at the queue,
$(DIR)/test_store_clear: WRAP = $(addprefix -Wl$(comma)--wrap=,kv_failpoint \
    kv_epoch_free_entry kv_heap_lock kv_queue_take kv_sweep_between)

# and what in an epoch.
$(DIR)/test_store_snapshot: WRAP = $(addprefix -Wl$(comma)--wrap=,kv_map_walk \
    kv_record_encode kv_entry_iov nanosleep)

# It counts what the engine is told to forget.
$(DIR)/test_replica: WRAP = \
    $(if $(RAFT),-Wl$(comma)--wrap=kv_raft_snapshot_taken)

# Its system calls fail to order.
$(DIR)/test_system_faults: WRAP = $(addprefix -Wl$(comma)--wrap=,open openat \
    fstat fstatat mkdirat fsync syncfs flock ftruncate unlinkat fchown \
    fchmod readlinkat readlink pread pwrite read fdopendir readdir fcntl statx)
