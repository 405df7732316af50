# install.mk - make install and uninstall.
#
# One list of "source:destination:mode" serves both, so that uninstall takes
# away what install has brought.  Man pages lie beside what they describe and
# are found by wildcard.

SBINDIR ?= $(PREFIX)/sbin
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
# Where xl looks for the script of a disk, whatever the prefix of others is.
XENSCRIPTDIR ?= $(if $(filter /usr /usr/local,$(PREFIX)),/etc/xen/scripts,$(PREFIX)/etc/xen/scripts)
COMPDIR ?= $(PREFIX)/share/bash-completion/completions

MAN := $(wildcard $(foreach s,1 3 5 7 8,lib/*.$(s) ctl/*/*.$(s) tapdisk/*.$(s) tapdisk/*/*.$(s) tapdisk/*/*/*.$(s) \
	drivers/*.$(s) drivers/*/*.$(s) tools/*.$(s) tools/*/*.$(s)))
UNITS := $(wildcard tools/systemd/*.service)
COMPLETION := $(wildcard tools/completion/*)

FILES := \
	$(foreach p,tapdisk blktapctrl tap-ctl tap-xl,$(BIN)/$(p):$(SBINDIR)/$(p):755) \
	$(foreach p,tap-io tap-img,$(BIN)/$(p):$(BINDIR)/$(p):755) \
	tools/xen/block-blktap:$(XENSCRIPTDIR)/block-blktap:755 \
	$(RING_SO):$(LIBDIR)/$(notdir $(RING_SO)):755 \
	$(RING_A):$(LIBDIR)/libtapring.a:644 \
	$(foreach h,tapring.h tapring_proto.h, \
		include/$(h):$(INCLUDEDIR)/$(h):644) \
	$(BUILD)/tapring.pc:$(LIBDIR)/pkgconfig/tapring.pc:644 \
	$(foreach m,$(MAN), \
		$(m):$(MANDIR)/man$(patsubst .%,%,$(suffix $(m)))/$(notdir $(m)):644) \
	$(foreach u,$(UNITS),$(BUILD)/$(notdir $(u)):$(UNITDIR)/$(notdir $(u)):644) \
	$(foreach c,$(COMPLETION),$(c):$(COMPDIR)/$(notdir $(c)):644)

.PHONY: install uninstall
install: all $(BUILD)/tapring.pc $(foreach u,$(UNITS),$(BUILD)/$(notdir $(u)))
	@for f in $(FILES); do \
		IFS=:; set -- $$f; unset IFS; \
		$(if $(V),echo "$(DESTDIR)$$2";) \
		install -D -m "$$3" "$$1" "$(DESTDIR)$$2" || exit 1; \
	done
	@ln -sf $(notdir $(RING_SO)) "$(DESTDIR)$(LIBDIR)/libtapring.so"
	@for n in $(CLASSIC); do \
		ln -sf tap-img "$(DESTDIR)$(BINDIR)/$$n"; \
		ln -sf tap-img.1 "$(DESTDIR)$(MANDIR)/man1/$$n.1"; \
	done
	@echo 'installed under $(DESTDIR)$(PREFIX)'

uninstall:
	@for f in $(FILES); do \
		IFS=:; set -- $$f; unset IFS; \
		rm -f "$(DESTDIR)$$2" || exit 1; \
	done
	@rm -f "$(DESTDIR)$(LIBDIR)/libtapring.so"
	@for n in $(CLASSIC); do \
		rm -f "$(DESTDIR)$(BINDIR)/$$n" "$(DESTDIR)$(MANDIR)/man1/$$n.1"; \
	done

# Made anew each time: they name PREFIX.
.PHONY: $(BUILD)/tapring.pc
$(BUILD)/tapring.pc:
	@mkdir -p $(@D)
	@printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(LIBDIR)' \
		'includedir=$(INCLUDEDIR)' '' 'Name: tapring' \
		'Description: client side of a blktap disk ring' \
		'Version: $(VERSION)' 'Libs: -L$${libdir} -ltapring' \
		'Cflags: -I$${includedir}' >$@
.PHONY: $(foreach u,$(UNITS),$(BUILD)/$(notdir $(u)))
$(foreach u,$(UNITS),$(BUILD)/$(notdir $(u))): $(BUILD)/%.service: tools/systemd/%.service
	@mkdir -p $(@D)
	@sed 's,@SBINDIR@,$(SBINDIR),g' $< >$@
