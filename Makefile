# kdcache: offline soft-label caches for multi-teacher distillation.
#
#   make deps demo    install what is needed, run the demonstration
#   make deps test    install what is needed, run the tests
#   make list         every target with a line about it
#
# Variables: BUILD (output directory), CC, CFLAGS, SANITIZE=address,undefined,
# PREFIX and DESTDIR (install), JOBS (compilers at a time), V=1 (show commands).

BUILD    ?= build
CC       ?= cc
CFLAGS   ?= -O3 -g
PREFIX   ?= /usr/local
SANITIZE ?=
V        ?= 0
JOBS     ?= $(shell nproc)

APT_BUILD := gcc make pkg-config libhdf5-dev libopenblas-openmp-dev libyaml-dev \
             libdnnl-dev libxxhash-dev zlib1g-dev libpng-dev \
             libjpeg62-turbo-dev libcjson-dev
APT_TEST  := libcmocka-dev bats python3-h5py python3-numpy
APT_LINT  := clang clang-format shellcheck libclang-rt-dev libomp-dev
PACKAGES  := hdf5-serial openblas yaml-0.1 libxxhash zlib libpng libjpeg libcjson

# Asked of pkg-config when a rule needs them, so that `make deps` works on a
# machine that has no pkg-config yet.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES)))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $(shell pkg-config --libs $(PACKAGES)))$(PKG_LIBS)

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
            -Wmissing-prototypes -Wvla -Wwrite-strings -Wundef -Werror=implicit
ARCH     ?=
VERSION  := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
BASE     := -std=c17 -D_POSIX_C_SOURCE=200809L -Iinclude -Isrc -fopenmp \
            $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all)
COMPILE   = $(CC) $(BASE) $(WARNINGS) $(ARCH) $(CFLAGS) $(PKG_CFLAGS) $(CPPFLAGS)
LINK      = $(CC) $(BASE) $(CFLAGS) $(LDFLAGS)
LIBS      = $(PKG_LIBS) -ldnnl -lm -lpthread

SOURCES := $(wildcard src/*/*.c)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY := $(BUILD)/libkdcache.a
TOOLS   := $(patsubst tools/%.c,$(BUILD)/bin/%,$(wildcard tools/kd-*.c))
UNITS   := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))
FAULTS  := $(BUILD)/tests/fault/shim.so $(BUILD)/tests/fault/damage
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
ALL_C   := $(wildcard include/kd/*.h src/*/*.[ch] tools/*.c tests/*/*.[ch])

ifeq ($(V),0)
Q := @
SAY = @printf '%-6s %s\n'
else
Q :=
SAY = @:
endif

all: $(LIBRARY) $(TOOLS) ## build the library and the programs

# Rebuilds everything when the compiler or its flags change.
$(BUILD)/flags: FORCE
	@mkdir -p $(BUILD)
	@printf '%s\n' '$(COMPILE) $(LINK) $(LIBS)' | cmp -s - $@ || \
	    printf '%s\n' '$(COMPILE) $(LINK) $(LIBS)' > $@

$(BUILD)/version.h: FORCE
	@mkdir -p $(BUILD)
	@printf '#define KD_VERSION "%s"\n' '$(VERSION)' | cmp -s - $@ || \
	    printf '#define KD_VERSION "%s"\n' '$(VERSION)' > $@

$(BUILD)/src/base/version.o: $(BUILD)/version.h
$(BUILD)/src/base/version.o: CPPFLAGS += -include $(BUILD)/version.h

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(SAY) CC $<
	$(Q)$(COMPILE) -MMD -MP -c -o $@ $<

$(LIBRARY): $(OBJECTS)
	$(SAY) AR $@
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/bin/%: $(BUILD)/tools/%.o $(LIBRARY)
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(LINK) -o $@ $< $(LIBRARY) $(LIBS)

$(BUILD)/tests/%: $(BUILD)/tests/unit/%.o $(LIBRARY)
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(LINK) -o $@ $< $(LIBRARY) -lcmocka $(LIBS)

$(BUILD)/bench/%: $(BUILD)/tests/bench/%.o $(LIBRARY)
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(LINK) -o $@ $< $(LIBRARY) $(LIBS)

$(BUILD)/tests/fault/damage: $(BUILD)/tests/fault/damage.o $(LIBRARY)
	$(SAY) LINK $@
	$(Q)$(LINK) -o $@ $< $(LIBRARY) -lcmocka $(LIBS)

# Loaded into programs that were built with whatever flags: it has its own.
$(BUILD)/tests/fault/shim.so: tests/fault/shim.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) -std=c17 $(WARNINGS) -O2 -g -fPIC -shared -o $@ $< -ldl

$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/driver.o $(LIBRARY)
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(LINK) $(FUZZ_LINK) -o $@ $< $(BUILD)/tests/fuzz/driver.o $(LIBRARY) $(LIBS)

units: $(UNITS) ## build the unit tests

faults: $(FAULTS)

fuzzers: $(FUZZERS)

deps: ## install what building and testing need (Debian and kin)
	@tests/deps $(APT_BUILD) $(APT_TEST) $(APT_LINT)

demo: ## train teachers, cache, merge, distil: a few minutes
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@KD_BIN=$(BUILD)/bin pipelines/demo.sh -o $(BUILD)/demo

test: ## run every test
	@$(MAKE) --no-print-directory -j$(JOBS) all units faults fuzzers
	@BUILD=$(BUILD) tests/run unit cli fault fuzz

check-units: ## run the unit tests alone
	@$(MAKE) --no-print-directory -j$(JOBS) units
	@BUILD=$(BUILD) tests/run unit

asan: ## the unit tests under AddressSanitizer and UBSan
	@$(MAKE) BUILD=$(BUILD)/asan CFLAGS='-O1 -g' SANITIZE=address,undefined check-units

tsan: ## the unit tests under ThreadSanitizer
	@$(MAKE) BUILD=$(BUILD)/tsan CFLAGS='-O1 -g' SANITIZE=thread check-units

# With clang, libFuzzer looks for ways into the code; without, inputs are mutated blindly.
FUZZ_SECONDS ?= 30
FUZZ_CLANG := CC=clang FUZZ_LINK=-fsanitize=fuzzer \
              CFLAGS='-O1 -g -fsanitize=fuzzer-no-link -DKD_LIBFUZZER'
FUZZ_GCC   := CFLAGS='-O1 -g'
FUZZ_PROBE := echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return 0; }' | \
              clang -fopenmp -fsanitize=fuzzer,address,undefined -x c -w - -o /dev/null

fuzz: ## every reader of foreign files on mutated ones: FUZZ_SECONDS=30 each
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/fuzzing \
	    SANITIZE=address,undefined fuzzers \
	    $(if $(shell $(FUZZ_PROBE) 2>&1),$(FUZZ_GCC),$(FUZZ_CLANG))
	@BUILD=$(BUILD)/fuzzing tests/fuzz/run $(FUZZ_SECONDS)

bench: ## measure beside other tools, on a quiet machine: BENCH="cache dump ..."
	@$(MAKE) --no-print-directory -j$(JOBS) all $(BENCHES)
	@BUILD=$(BUILD) tests/bench/run $(BENCH)

lint: ## formatting, headers that stand alone, layering, shell scripts, clang's warnings
	@BUILD=$(BUILD) CFLAGS='$(BASE) $(WARNINGS) $(PKG_CFLAGS)' tests/lint

format: ## reformat every source file
	clang-format -i $(ALL_C)

install: all ## install programs, headers and the library below DESTDIR/PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib \
	    $(DESTDIR)$(PREFIX)/include/kd
	install $(TOOLS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(LIBRARY) $(DESTDIR)$(PREFIX)/lib
	install -m 644 include/kd/*.h $(DESTDIR)$(PREFIX)/include/kd

list: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
	    awk -F'|' '{printf "%-10s %s\n", $$1, $$2}'

clean: ## remove what was built
	rm -rf $(BUILD)

FORCE:
.PHONY: all asan bench check-units clean demo deps faults format fuzz fuzzers install \
        lint list test tsan units FORCE
.SECONDARY:
.DELETE_ON_ERROR:
-include $(OBJECTS:.o=.d) $(wildcard $(BUILD)/tools/*.d $(BUILD)/tests/*/*.d)
