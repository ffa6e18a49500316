# Builds the programs of t/bench, as scripts/bench.sh wants them. From the top
# of the project:
#
#     make -f scripts/bench.mk DIR=.build/bench
#
# makes DIR/NAME of every t/bench/NAME.c, optimised as the module is, and each
# linked with the whole core; core, too, with its parts, t/bench/core/*.c.

DIR      ?= .build/bench

CFLAGS   := -std=gnu11 -O2 -g -pthread -Wall -Wextra -Werror -Isrc \
            -It/bench $(KV_CFLAGS)

PROGRAMS := $(basename $(notdir $(wildcard t/bench/*.c)))
# The sources' list is in config.
SOURCES  := $(shell sed -n 's,^ *\(.*\.c\)$$,\1,p' config)
CORE     := $(filter $(foreach r,base disk memory store,src/$(r)/%),$(SOURCES))
OBJECTS  := $(patsubst %.c,$(DIR)/obj/%.o,$(notdir $(CORE)))
PARTS    := clears commits lookups memory options recovery store stream

vpath %.c $(sort $(dir $(CORE))) t/bench t/bench/core

.PHONY: all
.SECONDARY:

all: $(addprefix $(DIR)/,$(PROGRAMS))

$(DIR)/core: $(addprefix $(DIR)/obj/,$(addsuffix .o,$(PARTS)))

$(DIR)/%: $(DIR)/obj/%.o $(OBJECTS)
	$(CC) $(CFLAGS) -o $@.new $^
	mv $@.new $@

$(DIR)/obj/%.o: %.c $(DIR)/obj/flags
	$(CC) $(CFLAGS) -MMD -MP -MF $(@:.o=.d) -MT $@ \
	    -c -o $@.new $<
	mv $@.new $@

# Objects made with other flags, or by another compiler, are of no use; nor are
# those that are cut off, which is why each gets its name last.
$(DIR)/obj/flags: FORCE
	@mkdir -p $(DIR)/obj
	@echo '$(CFLAGS)' "`$(CC) --version | head -n 1`" > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

.PHONY: FORCE

-include $(wildcard $(DIR)/obj/*.d)
