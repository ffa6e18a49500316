# Builds src/raft and the tests of t/raft; scripts/test.sh runs them. From the
# top of the project:
#
#     make -f scripts/raft.mk DIR=.build/raft-asan RAFT=`scripts/raft.sh`
#
# makes DIR/test_NAME of every program in the list, or of those in TESTS. RAFT
# is where the library libraft is. Nothing else of the project needs it.

DIR      ?= .build/raft-asan
SANITIZE ?= address,undefined
RAFT     ?= /usr

PROGRAMS := \
    t/raft/test_mutants.c \
    t/raft/test_sim.c \
    t/raft/test_traps.c

HELPERS  := \
    t/raft/sim.c \
    t/raft/sim_check.c \
    t/raft/sim_disk.c \
    t/raft/sim_net.c \
    t/raft/sim_node.c \
    t/raft/sim_trouble.c

TESTS    ?= $(basename $(notdir $(PROGRAMS)))

CFLAGS   := -std=gnu11 -O1 -g1 -fno-omit-frame-pointer -Wall -Wextra -Werror \
            -Isrc -It/raft $(if $(SANITIZE),-fsanitize=$(SANITIZE) \
            -fno-sanitize-recover=all) $(KV_CFLAGS)

OBJ      := $(DIR)

comma    := ,

include scripts/common.mk

SHARED   := $(patsubst %.c,$(DIR)/%.o,$(notdir $(filter src/raft/%,$(CORE)) \
            $(HELPERS)))

vpath %.c t/raft

all: $(addprefix $(DIR)/,$(TESTS))

# The library is linked statically, and nothing of libuv comes along.
$(DIR)/test_%: $(DIR)/test_%.o $(SHARED)
	$(CC) $(CFLAGS) -o $@.new $^ $(WRAP) $(LIBRAFT) -lcmocka
	mv $@.new $@

# What each of them does is left out to order.
$(DIR)/test_mutants: WRAP = $(addprefix -Wl$(comma)--wrap=, \
    kv_raft_change_follows kv_raft_is_alone kv_raft_message_piece \
    kv_raft_message_tell_term kv_raft_read_begin)
