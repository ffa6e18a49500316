# What unit.mk, fuzz.mk and bench.mk have in common. They include it when they
# have set CFLAGS, OBJ, the folder of the objects, and PROGRAMS, the sources of
# what they make.

.DEFAULT_GOAL := all

# The sources' lists are in config. What stands on libraft belongs to them where
# RAFT names the folder that the library is in, such as /usr.
SOURCES  := $(shell sed -n 's,^ *\(.*\.c\)$$,\1,p' config)
ON_RAFT  := $(shell sed -n '/^kv_raft_srcs=/,/^"$$/s,^ *\(.*\.c\)$$,\1,p' \
              config)

ifneq ($(RAFT),)
CFLAGS   += -DKV_HAVE_RAFT=1 -isystem $(RAFT)/include
LIBRAFT  := $(firstword $(wildcard $(RAFT)/lib/*/libraft.a))
else
SOURCES  := $(filter-out $(ON_RAFT),$(SOURCES))
endif

ROOMS    := base disk net memory index feed raft store
CORE     := $(filter $(foreach r,$(ROOMS),src/$(r)/%),$(SOURCES))

LINES    := $(filter src/lines/%,$(SOURCES))

vpath %.c $(sort $(dir $(CORE) $(LINES)))

.PHONY: all list FORCE
.SECONDARY:

# For the scripts: which there are, one a line.
list:
	@printf '%s\n' $(PROGRAMS)

# What an object depends on is written down for any name of its folder.
$(OBJ)/%.o: %.c $(OBJ)/flags
	$(CC) $(CFLAGS) $(INCLUDES) $(COVERAGE) -MMD -MP -MF $(@:.o=.d) \
	    -MT '$$(OBJ)/$(@F)' -c -o $@.new $<
	mv $@.new $@

# Objects made with other flags, or by another compiler, are of no use; nor are
# those that are cut off, which is why each gets its name last.
$(OBJ)/flags: FORCE
	@mkdir -p $(OBJ)
	@echo '$(CFLAGS) $(NGX)' "`$(CC) --version | head -n 1`" > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

-include $(wildcard $(OBJ)/*.d)
