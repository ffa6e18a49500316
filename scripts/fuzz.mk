# Builds the fuzz targets; scripts/fuzz.sh runs them. From the top of the
# project:
#
#     make -f scripts/fuzz.mk DIR=.build/fuzz NGINX=.build/nginx-src
#
# makes DIR/fuzz_NAME of every program in the list, or of those in TARGETS,
# with clang and its libFuzzer. Those that need no nginx are linked with what
# they use of the core and with the unit tests' directory in memory; those that
# do, t/fuzz/fuzz_http_*.c, with the few functions of t/fuzz/ngx.c in place of
# nginx, whose headers are in the configured source tree NGINX.
#
# As clang is there: it also reads every source file with the warnings that
# nginx's ./configure has it give, which are others than gcc's; those that it
# compiles for the targets, as it does so. All of this is without libraft, which
# the tests and the module are built with; with RAFT, the folder of the library,
# it reads what is different then, and makes fuzz_raft.

CC       := clang
DIR      ?= .build/fuzz
NGINX    ?= .build/nginx-src

PROGRAMS := \
    t/fuzz/fuzz_dictionary.c \
    t/fuzz/fuzz_http_conf.c \
    t/fuzz/fuzz_http_key.c \
    t/fuzz/fuzz_http_prefer.c \
    t/fuzz/fuzz_line.c \
    t/fuzz/fuzz_log.c \
    t/fuzz/fuzz_net.c \
    t/fuzz/fuzz_record.c \
    t/fuzz/fuzz_snapshot.c \
    t/fuzz/fuzz_version.c

# Only where the library is.
ON_LIB   := \
    t/fuzz/fuzz_raft.c

PROGRAMS += $(if $(RAFT),$(ON_LIB))

TARGETS  ?= $(basename $(notdir $(PROGRAMS)))

CFLAGS   := -std=gnu11 -O1 -g1 -fno-omit-frame-pointer -pthread \
            -Wall -Wextra -Wpointer-arith -Wconditional-uninitialized -Werror \
            -Isrc -It/unit -It/fuzz \
            -fsanitize=address,undefined -fno-sanitize-recover=all \
            $(KV_CFLAGS)

COVERAGE := -fsanitize=fuzzer-no-link

# The folders that nginx itself is compiled with: which there are depends on its
# version and configuration. Its makefile has one a line, relative to the tree.
# Ours is among them, which is none of a system's: no warnings come from those.
NGX      := $(shell sed -n '/^ALL_INCS/,/[^\\]$$/{ s/^.*-I *//; s/ *\\$$//; \
              \,^\.\./\.\./src$$,d; s,^[^/],$(NGINX)/&,; s/^/-isystem /; p }' \
              $(NGINX)/objs/Makefile)

OBJ      := $(DIR)

WITH     := $(RAFT)
override RAFT :=

include scripts/common.mk

# Of the core, what the targets use.
USED     := $(filter src/base/% src/disk/%,$(CORE)) src/net/kv_net_frame.c \
            src/store/kv_version.c

HELPERS  := t/unit/ram.c t/fuzz/fuzz.c
SHARED   := $(patsubst %.c,$(DIR)/%.o,$(notdir $(USED) $(LINES) $(HELPERS)))

vpath %.c src/http src/raft t/unit t/fuzz

WARNINGS := -O -W -Wall -Wextra -Wpointer-arith -Wconditional-uninitialized \
            -Wno-unused-parameter -Werror

REST     := $(filter-out $(USED) $(LINES),$(SOURCES))

AGAIN    := $(if $(WITH),$(ON_RAFT) \
            $(shell grep -lw KV_HAVE_RAFT $(SOURCES)))

READS    := $(patsubst %.c,$(DIR)/warnings/%.read,$(REST)) \
            $(patsubst %.c,$(DIR)/warnings/raft/%.read,$(AGAIN))

all: $(addprefix $(DIR)/,$(TARGETS)) $(READS)

# What the functions under test do not call stays unresolved.
HTTP     := $(addprefix $(DIR)/,ngx.o fuzz.o kv_crc32c.o kv_record.o)

$(DIR)/fuzz_http_%: $(DIR)/fuzz_http_%.o $(HTTP)
	$(CC) $(CFLAGS) -fsanitize=fuzzer -no-pie \
	    -Wl,--unresolved-symbols=ignore-all -o $@.new $^
	mv $@.new $@

$(DIR)/fuzz_http_conf: $(DIR)/ngx_http_kv_conf_check.o \
                       $(DIR)/ngx_http_kv_conf_params.o
$(DIR)/fuzz_http_key: $(DIR)/ngx_http_kv_key.o $(DIR)/kv_key.o
$(DIR)/fuzz_http_prefer: $(DIR)/ngx_http_kv_prefer.o

$(DIR)/fuzz_%: $(DIR)/fuzz_%.o $(SHARED)
	$(CC) $(CFLAGS) -fsanitize=fuzzer -o $@.new $^ $(LIBRAFT) -lcmocka \
	    -ljansson -lcrypto
	mv $@.new $@

# It stands on the library.
RAFT_OBJ := $(addprefix $(DIR)/,kv_raft_entry.o kv_raft_frame.o \
            kv_raft_message.o)

$(RAFT_OBJ) $(DIR)/fuzz_raft.o: INCLUDES = -DKV_HAVE_RAFT=1 \
    -isystem $(WITH)/include

$(DIR)/fuzz_raft: $(RAFT_OBJ)
$(DIR)/fuzz_raft: LIBRAFT = $(firstword $(wildcard $(WITH)/lib/*/libraft.a))

$(DIR)/ngx.o $(DIR)/ngx_http_%.o $(DIR)/fuzz_http_%.o: INCLUDES = $(NGX)

# A checksum has no branch worth finding, and most of the time goes there.
$(DIR)/kv_crc32c.o: COVERAGE = -O2

# They come from the front end: no code is made. It reads nginx's own headers,
# most of the time of a file that includes them, only once.
READ      = $(CC) $(WARNINGS) -Isrc $(NGX) $(KV_CFLAGS) -MMD -MP \
            -MF $(@:.read=.d) -MT $@ -fsyntax-only $(ONCE) $<

OF_HTTP   = $(foreach read,$(READS),$(if $(findstring /http/,$(read)),$(read)))

$(OF_HTTP): $(DIR)/nginx.pch
$(OF_HTTP): ONCE = -include-pch $(DIR)/nginx.pch

$(DIR)/nginx.pch: $(NGINX)/objs/ngx_auto_config.h $(DIR)/flags
	printf '#include <%s>\n' ngx_config.h ngx_core.h ngx_http.h >$(@:.pch=.h)
	$(CC) $(WARNINGS) -Isrc $(NGX) $(KV_CFLAGS) -x c-header -o $@.new \
	    $(@:.pch=.h)
	mv $@.new $@

$(DIR)/warnings/%.read: %.c $(DIR)/flags
	@mkdir -p $(@D)
	$(READ)
	@touch $@

$(DIR)/warnings/raft/%.read: %.c $(DIR)/flags
	@mkdir -p $(@D)
	$(READ) -DKV_HAVE_RAFT=1 -isystem $(WITH)/include
	@touch $@

-include $(wildcard $(DIR)/warnings/*.d $(DIR)/warnings/src/*/*.d \
           $(DIR)/warnings/raft/src/*/*.d)
