# bench.mk - speed: a load generator, an engine for fio, and the report.
#
#   make bench                       all (about an hour)
#   make bench BENCH_ARGS=--quick    few pairs: does it run, is it sane (CI)
#   make bench BENCH_ARGS=--help     what else

BENCH_SRC := $(wildcard bench/gen*.c)
GEN := $(BUILD)/bench/gen
FIO_DIR := $(BUILD)/fio
FIO_ENGINE := $(BUILD)/fio-tapring.so

$(BUILD)/bench/%.o: CPPFLAGS += $(INC) -Ilib
$(GEN): $(call obj,$(BENCH_SRC)) $(RING_A) $(LIB)
	$(call link,$(LIBS))

# Headers of the very fio that is installed; not to be had: no engine, and the
# reason is kept for whoever asks.
$(BUILD)/fio-headers: bench/fio-headers
	@mkdir -p $(@D)
	@bench/fio-headers $(FIO_DIR) 2>$@.why && rm -f $@.why; \
	if [ -e $@.why ]; then cat $@.why >&2; else touch $@; fi
$(FIO_ENGINE): bench/fio-tapring.c $(RING_CLIENT) include/tapring.h $(BUILD)/fio-headers
	$(if $(Q),@echo '  FIO   $@')
	$(Q)if [ -e $(FIO_DIR)/src/config-host.h ]; then \
		$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) $(CFLAGS) -fPIC -shared \
		-include $(FIO_DIR)/src/config-host.h -isystem $(FIO_DIR)/src \
		-Iinclude -Ilib -o $@ $(filter %.c,$^); fi

.PHONY: fio-engine bench-gen bench
fio-engine: $(FIO_ENGINE)
bench-gen: $(GEN)
bench: $(addprefix $(BIN)/,tapdisk blktapctrl tap-ctl) $(GEN) $(FIO_ENGINE)
	BUILD=$(BUILD) bench/run $(BENCH_ARGS)
