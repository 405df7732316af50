# The whole build, non-recursive.  `make help` lists the targets.
#
# Each folder sees only the floors below it (-I lines of the rules): an include
# that looks up does not compile.
#
#   BUILD=dir   where everything goes        SAN=address,undefined | thread
#   WERROR=1    warnings are errors          V=1  show the commands

VERSION := 0.1.0
PREFIX ?= /usr/local
DESTDIR ?=
BUILD ?= build
SAN ?=
CC ?= cc
FUZZ_CC ?= clang
SECONDS ?= 600

Q := $(if $(V),,@)

CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes \
	-Wimplicit-fallthrough -Wpointer-arith -Wformat=2 $(if $(WERROR),-Werror)
HARDEN := $(if $(SAN),,-D_FORTIFY_SOURCE=2) -fstack-protector-strong -fPIC
BASE_CFLAGS := -std=gnu11 -D_GNU_SOURCE -DBLKTAP_VERSION='"$(VERSION)"' \
	$(WARN) $(HARDEN) $(CFLAGS) $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
LDFLAGS += -Wl,-z,relro,-z,now $(if $(SAN),-fsanitize=$(SAN))

# Sources, by floor.
RING_CLIENT := $(wildcard lib/tapring/*.c)
LIB_SRC := $(filter-out $(RING_CLIENT),$(wildcard lib/*.c lib/*/*.c))
DRV_SRC := $(wildcard drivers/*.c drivers/*/*.c)
# Xen's libraries, if they are there; HAVE_XEN= builds without them.
ifeq ($(origin HAVE_XEN),undefined)
HAVE_XEN := $(shell pkg-config --exists xengnttab xenevtchn xenstore 2>/dev/null && echo 1)
endif
TAPDISK_SRC := $(filter-out $(if $(HAVE_XEN),%/xen_none.c,%/xen.c %/xen_host.c \
	%/xen_pages.c),$(wildcard tapdisk/*.c tapdisk/*/*.c tapdisk/*/*/*.c))
HAVE_XENSTORE ?= $(shell pkg-config --exists xenstore 2>/dev/null && echo 1)
CTRL_SRC := $(wildcard ctl/blktapctrl/*.c) $(if $(HAVE_XENSTORE),$(filter-out \
	%/none.c,$(wildcard ctl/blktapctrl/xen/*.c)),ctl/blktapctrl/xen/none.c)
TAPCTL_SRC := $(wildcard ctl/tap-ctl/*.c)
TAPIO_SRC := $(wildcard tools/tap-io/*.c)
TAPIMG_SRC := $(wildcard tools/tap-img/*.c)
CLASSIC := img2qcow qcow2raw qcow-create
TESTLIB_SRC := $(wildcard tests/lib/*.c)
UNIT_SRC := $(filter-out $(if $(HAVE_XEN),,%/xen_rings.c %/xen_grants.c),$(wildcard tests/unit/*.c))
FUNC_SRC := $(wildcard tests/func/*.c)
FUZZ_SRC := $(wildcard tests/fuzz/*.c)
CRASH_SRC := $(wildcard tests/crash/*.c)

obj = $(patsubst %.c,$(BUILD)/%.o,$(1))

LIB := $(BUILD)/libtap.a
DRV := $(BUILD)/libdrivers.a
TAPDISK := $(BUILD)/libtapdisk.a
RING_A := $(BUILD)/libtapring.a
RING_SO := $(BUILD)/libtapring.so.1
TESTLIB := $(if $(TESTLIB_SRC),$(BUILD)/libtest.a)
BIN := $(BUILD)/bin
PROGRAMS := $(addprefix $(BIN)/,tapdisk blktapctrl tap-ctl tap-io tap-img tap-xl)
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))
FUNC := $(patsubst tests/func/%.c,$(BUILD)/func/%,$(FUNC_SRC))
CRASH := $(BUILD)/crash/crash

LIBS := -laio -lz -lpthread
DRV_LIBS := $(LIBS) -ljansson -lzstd -ldeflate -lcrypto -largon2
# Argon2's threads end by pthread_exit(), for which glibc loads libgcc_s: in its
# sandbox a tapdisk could not.
TAPDISK_LIBS := $(DRV_LIBS) -lseccomp $(if $(HAVE_XEN),-lxengnttab -lxenevtchn) \
	-Wl,--push-state,--no-as-needed -lgcc_s -Wl,--pop-state
CTRL_LIBS := $(LIBS) -ljansson
BLKTAPCTRL_LIBS := $(CTRL_LIBS) $(if $(HAVE_XENSTORE),-lxenstore)
TAPIMG_LIBS := $(DRV_LIBS)

.PHONY: all help
all: $(PROGRAMS) $(RING_A) $(RING_SO) $(BUILD)/tapring-example

help:
	@echo 'all                programs and libtapring, into $(BUILD)/'
	@echo 'install            DESTDIR= PREFIX=$(PREFIX)'
	@echo 'check              the quick tests (minutes); counts at the end'
	@echo 'check-asan         the same under ASan and UBSan'
	@echo 'check-tsan         what has threads, under TSan'
	@echo 'check-valgrind     unit tests under valgrind'
	@echo 'check-xen          guests on Xen under QEMU; -full: all cases'
	@echo 'bench-xen          a guest on tapdisk and on xen-blkback: ratios'
	@echo 'check-long         random faults and long differential runs'
	@echo 'fuzz               libFuzzer targets, SECONDS=$(SECONDS) each'
	@echo 'bench              speed against peers, into bench/out/'
	@echo 'clean'

# What each folder may see.
INC := -Iinclude
$(BUILD)/lib/%.o: CPPFLAGS += $(INC) -Ilib
$(BUILD)/drivers/%.o: CPPFLAGS += $(INC) -Ilib -Idrivers
$(BUILD)/tapdisk/%.o: CPPFLAGS += $(INC) -Ilib -Idrivers -Itapdisk
$(BUILD)/ctl/blktapctrl/%.o: CPPFLAGS += $(INC) -Ilib -Ictl/blktapctrl
$(BUILD)/ctl/tap-ctl/%.o: CPPFLAGS += $(INC) -Ilib -Ictl/tap-ctl
$(BUILD)/tools/%.o: CPPFLAGS += $(INC) -Ilib
$(BUILD)/tools/tap-img/%.o: CPPFLAGS += -Idrivers
$(BUILD)/tests/%.o: CPPFLAGS += $(INC) -Ilib -Idrivers -Itapdisk -Ictl/blktapctrl -Itests/lib

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(if $(Q),@echo '  CC    $<')
	$(Q)$(CC) $(BASE_CFLAGS) $(CPPFLAGS) -MMD -MP -c -o $@ $<

define archive
	@mkdir -p $(@D)
	@rm -f $@
	$(if $(Q),@echo '  AR    $@')
	$(Q)$(AR) rcs $@ $(filter %.o,$^)
endef
define link
	@mkdir -p $(@D)
	$(if $(Q),@echo '  LINK  $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(1)
endef

$(LIB): $(call obj,$(LIB_SRC))
	$(archive)
$(DRV): $(call obj,$(DRV_SRC))
	$(archive)
$(TAPDISK): $(filter-out %/main.o,$(call obj,$(TAPDISK_SRC)))
	$(archive)
$(RING_A): $(call obj,$(RING_CLIENT))
	$(archive)
$(RING_SO): $(call obj,$(RING_CLIENT))
	$(if $(Q),@echo '  LINK  $@')
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libtapring.so.1 -o $@ $^
$(BUILD)/libtest.a: $(call obj,$(TESTLIB_SRC))
	$(archive)

$(BIN)/tapdisk: $(BUILD)/tapdisk/main.o $(TAPDISK) $(DRV) $(LIB)
	$(call link,$(TAPDISK_LIBS))
$(BIN)/blktapctrl: $(call obj,$(CTRL_SRC)) $(LIB)
	$(call link,$(BLKTAPCTRL_LIBS))
$(BIN)/tap-ctl: $(call obj,$(TAPCTL_SRC)) $(LIB)
	$(call link,$(CTRL_LIBS))
$(BIN)/tap-io: $(call obj,$(TAPIO_SRC)) $(RING_A) $(LIB)
	$(call link,$(LIBS))
$(BIN)/tap-img: $(call obj,$(TAPIMG_SRC)) $(DRV) $(LIB)
	$(call link,$(TAPIMG_LIBS))
	@cd $(@D) && for n in $(CLASSIC); do ln -sf tap-img $$n; done

$(BIN)/tap-xl: tools/xen/tap-xl Makefile
	@mkdir -p $(@D)
	$(if $(Q),@echo '  GEN   $@')
	$(Q)sed 's,@VERSION@,$(VERSION),' $< >$@ && chmod 755 $@

$(BUILD)/tapring-example: $(BUILD)/tools/tapring-example.o $(RING_A)
	$(call link)

$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(TESTLIB) $(TAPDISK) $(DRV) $(RING_A) $(LIB)
	$(call link,$(TAPDISK_LIBS) -lcmocka)
$(BUILD)/func/%: $(BUILD)/tests/func/%.o $(TESTLIB) $(TAPDISK) $(DRV) $(RING_A) $(LIB)
	$(call link,$(TAPDISK_LIBS))
$(CRASH): $(call obj,$(CRASH_SRC)) $(TESTLIB) $(TAPDISK) $(DRV) $(LIB)
	$(call link,$(TAPDISK_LIBS))

include tests/tests.mk
include bench/bench.mk
include tools/install.mk

.PHONY: clean
clean:
	rm -rf build build-*

.SECONDARY:
-include $(shell find $(BUILD) -name xen-cache -prune -o -name '*.d' -print 2>/dev/null)
