# tests.mk - everything that `make check` and its longer relatives run.
#
# All goes through tests/run, one runner, one closing line: one unit of its
# count is one program of tests/unit or tests/fuzz, or one script.

RUN_TESTS := tests/run
TEST_ENV = BUILD=$(BUILD) SAN=$(SAN) CC='$(CC)' MAKEFLAGS=
FUNC_SH := $(sort $(wildcard tests/func/*.sh) $(wildcard tests/interop/*.sh) \
	$(wildcard tests/crash/*.sh))
# A program of tests/func that no script names is a test by itself.
FUNC_ALONE = $(shell for p in $(notdir $(FUNC)); do \
	grep -qsw -- "$$p" $(FUNC_SH) || echo $(BUILD)/func/$$p; done)
GUESTIO := $(BUILD)/xen/guestio
HOSTFRONT := $(BUILD)/xen/hostfront
FUZZ := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SRC))

.PHONY: tests check check-unit check-func check-asan check-tsan check-valgrind
.PHONY: check-long check-warnings fuzz fuzz-run

# For hosts without Xen: a tapdisk without rings, what lets xenstored run; a full one.
HOSTXEN := $(if $(HAVE_XENSTORE),$(addprefix $(BUILD)/hostxen/,tapdisk xenstored.so full.so))
$(BUILD)/hostxen/tapdisk: $(BUILD)/tapdisk/main.o \
		$(BUILD)/tests/lib/hostxen/rings.o $(TAPDISK) $(DRV) $(LIB)
	$(call link,$(TAPDISK_LIBS))
# Without sanitizers: they go into programs that have none.
$(BUILD)/hostxen/%.so: tests/lib/hostxen/%.c
	@mkdir -p $(@D)
	$(if $(Q),@echo '  LINK  $@')
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) -O2 -fPIC -shared -o $@ $< -ldl

# One more at a time than there are processors: scripts sleep a lot.
JOBS := $(shell expr `nproc` + 1)

# All that the tests need, built.
tests: all $(UNIT) $(FUNC) $(CRASH) $(HOSTXEN) $(if $(SAN),,$(GUESTIO) $(HOSTFRONT))

# SHORT_FORMS=no: without the scripts of which check-long, that follows, has longer forms.
check: tests
	@$(TEST_ENV) $(RUN_TESTS) -j $(JOBS) tests/headers.sh tests/docs.sh \
		$(UNIT) $(FUNC_ALONE) $(filter-out $(if $(filter no,$(SHORT_FORMS)),$(LONG_SH)),$(FUNC_SH))

# make check-func T='tests/func/a.sh tests/interop/b.sh': some of them.
check-unit: $(UNIT)
	@$(TEST_ENV) $(RUN_TESTS) $(or $(addprefix $(BUILD)/unit/,$(T)),$(UNIT))
check-func: tests
	@$(TEST_ENV) $(RUN_TESTS) $(or $(T),$(FUNC_ALONE) $(FUNC_SH))

# The sanitizers end a program at the first finding: a test cannot miss it.
# Idle workers leave with their process; that is no leak of threads.
SAN_ENV := ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:exitcode=99 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:exitcode=99 \
	TSAN_OPTIONS=suppressions=$(CURDIR)/tests/lib/tsan.supp:halt_on_error=1:exitcode=99:report_thread_leaks=0
check-asan:
	+@$(MAKE) --no-print-directory BUILD=$(BUILD)-asan SAN=address,undefined \
		CFLAGS='-O1 -g' check-san
# -Wno-tsan: fences order memory that is shared with other processes, which no
# sanitizer sees.
check-tsan:
	+@$(MAKE) --no-print-directory BUILD=$(BUILD)-tsan SAN=thread \
		CFLAGS='-O1 -g -Wno-tsan' check-san
# Programs that compare images for as long as they are given.  ASan and UBSan have
# all of them; under TSan and valgrind they would take a night, and what has threads
# in them (workers, ciphers) is in drv_luks, crypt, worker and the scripts.
IMAGES := drv_qcow2 qcow2_rules qcow2_shrink qcow vmdk luks
# TSan: of the scripts, those of processes that talk to one another.
SAN_UNIT = $(if $(filter thread,$(SAN)),$(filter-out $(addprefix %/,$(IMAGES)),$(UNIT)),$(UNIT))
SAN_SH = $(if $(filter thread,$(SAN)),$(filter tests/func/%,$(FUNC_SH)),$(FUNC_SH))
.PHONY: check-san
check-san: tests
	@$(SAN_ENV) $(TEST_ENV) $(RUN_TESTS) -j $(JOBS) -t 600 $(SAN_UNIT) $(FUNC_ALONE) $(SAN_SH)

VALGRIND := valgrind -q --error-exitcode=99 --leak-check=full \
	--errors-for-leak-kinds=definite \
	--suppressions=tests/lib/valgrind.supp
check-valgrind: $(UNIT)
	@$(TEST_ENV) $(RUN_TESTS) -t 900 -w '$(VALGRIND)' \
		$(filter-out $(addprefix %/,$(IMAGES) drv_luks),$(UNIT))

# Guests on real Xen, emulated by QEMU; a unit of the count is one case on one
# version of Xen.  T='name...' are some of the cases, -full all of them.
.PHONY: check-xen check-xen-full bench-xen
check-xen: all $(GUESTIO) $(HOSTFRONT)
	@$(TEST_ENV) tests/xen/run $(T)
check-xen-full: all $(GUESTIO) $(HOSTFRONT)
	@$(TEST_ENV) tests/xen/run --full $(T)
bench-xen: all $(GUESTIO) $(HOSTFRONT)
	@$(TEST_ENV) tests/xen/run -j 1 bench
$(GUESTIO): $(BUILD)/tests/xen/guestio.o
	$(call link,-static -pthread)
$(HOSTFRONT): $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/xen/hostfront/*.c))
	$(call link,-static -pthread)

# Both compilers, warnings as errors, everything.
check-warnings:
	+@$(TEST_ENV) $(RUN_TESTS) -j 1 -t 600 \
		'warnings/gcc::$(MAKE) -j2 BUILD=$(BUILD)-gcc CC=gcc WERROR=1 tests' \
		'warnings/clang::$(MAKE) -j2 BUILD=$(BUILD)-clang CC=clang WERROR=1 tests'

# libFuzzer, each target for SECONDS; the corpus grows in $(BUILD)-fuzz/corpus.
# A finding is kept there too, as crash-*, and fails the run.
FUZZ_SAY = echo 'SKIP: $(FUZZ_CC) cannot link -fsanitize=fuzzer'; exit 77
fuzz:
	+@if echo 'int LLVMFuzzerTestOneInput(const char *d, long n);' \
	'int LLVMFuzzerTestOneInput(const char *d, long n) { return !d && n; }' | \
	$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -xc - -o /dev/null \
		2>/dev/null; then \
		$(MAKE) --no-print-directory BUILD=$(BUILD)-fuzz CC=$(FUZZ_CC) \
			SAN=address,undefined \
			CFLAGS='-O1 -g -fsanitize=fuzzer-no-link' fuzz-run; \
	else \
		$(TEST_ENV) $(RUN_TESTS) $(foreach f,$(notdir $(FUZZ)), \
			"fuzz/$(f)::$(FUZZ_SAY)"); \
	fi
fuzz-run: $(FUZZ)
	@mkdir -p $(addprefix $(BUILD)/corpus/,$(notdir $(FUZZ)))
	@$(SAN_ENV) $(TEST_ENV) $(RUN_TESTS) -t $$(($(SECONDS) + 120)) \
		$(foreach f,$(FUZZ),"fuzz/$(notdir $(f))::$(f) -timeout=10 \
		-rss_limit_mb=1024 -error_exitcode=99 -max_total_time=$(SECONDS) $(if $(SEED),-seed=$(SEED)) \
		-print_final_stats=1 \
		-artifact_prefix=$(BUILD)/corpus/$(notdir $(f))- \
		$(BUILD)/corpus/$(notdir $(f)) $(wildcard tests/fuzz/$(notdir $(f)).corpus)")
$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(TESTLIB) $(TAPDISK) $(DRV) $(RING_A) $(LIB)
	$(call link,-fsanitize=fuzzer $(TAPDISK_LIBS))

# What takes long: many rounds of faults, long random comparisons.  A script
# that knows a longer form of itself takes it from LONG=1, ROUNDS or IMAGE_ROUNDS
# (power cuts and damage of images); the matrix of formats is whole, or as much of it
# as MATRIX_SECONDS allow.
# Those that take longest come first: none is left to run by itself at the end.
LONG_FIRST := $(patsubst %,tests/%.sh,interop/matrix interop/tap-img-check crash/power-cut \
	interop/nbd-random func/redo crash/kill-disk)
LONG_SH := $(LONG_FIRST) $(sort $(filter-out $(LONG_FIRST),$(shell \
	grep -lsE 'ROUNDS|LONG' $(FUNC_SH))))
ROUNDS ?= 100
IMAGE_ROUNDS ?= 20
MATRIX_SECONDS ?=
OPS ?= 150000
check-long: tests
	@LONG=1 ROUNDS=$(ROUNDS) IMAGE_ROUNDS=$(IMAGE_ROUNDS) \
		MATRIX_SECONDS=$(MATRIX_SECONDS) OPS=$(OPS) $(TEST_ENV) $(RUN_TESTS) -t 3600 $(LONG_SH) \
		'demo::tools/demo' \
		'bench:alone:$(MAKE) bench BENCH_ARGS="--quick --no-scale --claims --size 256 --only sleeping"'
