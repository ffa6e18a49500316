# Builds kv-inspect, the command-line tool, which stands on src/disk, src/base
# and src/lines alone; scripts/build.sh runs this. From the top of the project:
#
#     make -f scripts/tool.mk DIR=.build/tool
#
# makes DIR/kv-inspect. CFLAGS_MORE and LDFLAGS_MORE are added to the flags, as
# for a package; SANITIZE names sanitizers, as for the tests.

DIR      ?= .build/tool
SANITIZE ?=

PROGRAMS := \
    src/tool/kv_tool.c \
    src/tool/kv_tool_args.c \
    src/tool/kv_tool_check.c \
    src/tool/kv_tool_check_archive.c \
    src/tool/kv_tool_dir.c \
    src/tool/kv_tool_dump.c \
    src/tool/kv_tool_import.c \
    src/tool/kv_tool_import_key.c \
    src/tool/kv_tool_import_lkv.c \
    src/tool/kv_tool_import_redis.c \
    src/tool/kv_tool_keys.c \
    src/tool/kv_tool_line.c \
    src/tool/kv_tool_load.c \
    src/tool/kv_tool_log.c \
    src/tool/kv_tool_make.c \
    src/tool/kv_tool_moment.c \
    src/tool/kv_tool_repair.c \
    src/tool/kv_tool_restore.c \
    src/tool/kv_tool_say.c \
    src/tool/kv_tool_signal.c \
    src/tool/kv_tool_stat.c

CFLAGS   := -std=gnu11 -O2 -g -pthread -Wall -Wextra -Werror -Isrc \
            -Wformat -Werror=format-security -fstack-protector-strong \
            $(if $(SANITIZE),-O1 -g1 -fno-omit-frame-pointer \
            -fsanitize=$(SANITIZE) -fno-sanitize-recover=all, \
            -D_FORTIFY_SOURCE=2 -fPIE) $(KV_CFLAGS) $(CFLAGS_MORE)

LDFLAGS  := $(if $(SANITIZE),,-pie -Wl,-z,relro -Wl,-z,now) $(LDFLAGS_MORE)

OBJ      := $(DIR)

include scripts/common.mk

USED     := $(filter src/base/% src/disk/% src/lines/%,$(CORE) $(LINES))
OBJECTS  := $(patsubst %.c,$(DIR)/%.o,$(notdir $(PROGRAMS)))

vpath %.c src/tool

all: $(DIR)/kv-inspect

# From an archive, of which it takes what it uses.
$(DIR)/kv-inspect: $(OBJECTS) $(DIR)/core.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@.new $^ -ljansson -lhiredis -lcrypto
	mv $@.new $@

$(DIR)/core.a: $(patsubst %.c,$(DIR)/%.o,$(notdir $(USED)))
	rm -f $@.new
	$(AR) rc $@.new $^
	mv $@.new $@
