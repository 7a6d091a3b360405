# The project's own commands. Each does its own set-up on a Debian machine with rustup's Rust.
#   make run      see Weft at work: embedded queue, a receiver, real plugins
#   make test     everything: format, lints, all tests, plugins and examples in every language
#   make chaos    three minutes of daemons and Redis being killed, stopped and cut off; make test has a short form
#   make bench    the table of speed, beside a bare client in the same run
#   make plugins  compile the first-party plugins into target/plugins
#   make languages  the same plugin in every language, examples/hello-*: built, and judged by the same fixtures
#   make lint     format and lints only

.PHONY: run test chaos bench plugins hello hellos languages lint setup-build setup-test setup-languages

# A rustc that can compile for wasm32-wasip2, where rustup's cannot.
WASM_RUSTC = $(if $(wildcard target/wasm-rustc),RUSTC=$(shell cat target/wasm-rustc))

# Each a crate of that name under plugins/.
PLUGINS = dedupe match o-ran-notification redact template

# The first build takes minutes, and says how far it is.
run: plugins
	cargo build -p weft
	cargo run -q -p weft -- demo

# The tests mostly wait, for retries that are due and hosts that are gone: more of them at once than there are cores.
# The build has all targets, so that it is of the same dependencies as the tests and nothing is compiled twice. One
# failure does not hide those behind it.
test: setup-test lint plugins
	cd plugins && cargo test -q
	cargo build --workspace --all-targets
	$(MAKE) hellos
	RUST_TEST_THREADS=8 cargo test --workspace --no-fail-fast

chaos: setup-test
	cargo build --workspace --all-targets
	WEFT_CHAOS_SECONDS=180 cargo test -p tests --test suite -- chaos --nocapture

bench: setup-test
	cargo build --profile release-lto -p weft -p tests
	$(MAKE) hellos WEFT=target/release-lto/weft
	target/release-lto/bench

# `ask` and the SDK by itself have std; built together all others would have it too.
plugins: setup-build
	cd plugins && $(WASM_RUSTC) cargo build -q --release --target wasm32-wasip2 --workspace --exclude weft-plugin --exclude ask
	cd plugins && $(WASM_RUSTC) cargo build -q --release --target wasm32-wasip2 -p ask
	mkdir -p target/plugins target/fixtures
	cp plugins/target/wasm32-wasip2/release/ask.wasm target/fixtures
	for plugin in $(PLUGINS); do \
	  cp plugins/target/wasm32-wasip2/release/weft_$$(echo $$plugin | tr - _).wasm target/plugins/$$plugin.wasm || exit; \
	done

# The example that the README explains; the bench measures it.
hello: setup-build
	cd examples/hello-rust && $(WASM_RUSTC) cargo build -q --release --target wasm32-wasip2 --target-dir ../../plugins/target
	mkdir -p target/hello
	cp plugins/target/wasm32-wasip2/release/hello_rust.wasm target/hello/hello-rust.wasm

# The same in every other language, built by the program that was just built.
WEFT = target/debug/weft
LANGUAGES = ts js python go go-component c
hellos: hello setup-languages $(LANGUAGES:%=target/languages/hello-%.wasm) target/languages/go-sdk.wasm
	cp target/hello/hello-rust.wasm target/languages

languages: setup-test
	cargo build --workspace --all-targets
	$(MAKE) hellos
	cargo test --workspace --test suite -- languages --nocapture

.SECONDEXPANSION:
target/languages/hello-%.wasm: wit/plugin.wit $$(filter-out %.wasm %.md %/node_modules %/types %/build %/wit %/__pycache__,$$(wildcard examples/hello-$$*/*))
	PATH="$(CURDIR)/target/tools/bin:$$PATH" $(WEFT) plugin build examples/hello-$*
	mkdir -p target/languages
	cp examples/hello-$*/hello-$*.wasm $@

target/languages/hello-go-component.wasm: $(wildcard plugins/sdk-go/*.go)

# Uses all of the contract through the SDK for Go.
GO_SDK = plugins/sdk-go/testdata/contract
target/languages/go-sdk.wasm: wit/plugin.wit $(wildcard plugins/sdk-go/*.go $(GO_SDK)/*.go)
	PATH="$(CURDIR)/target/tools/bin:$$PATH" $(WEFT) plugin build $(GO_SDK)
	mkdir -p target/languages
	cp $(GO_SDK)/contract.wasm $@

lint: setup-build
	cargo fmt --all --check
	cargo clippy -q --workspace --all-targets -- -D warnings
	cd plugins && cargo fmt --all --check
	cd examples/hello-rust && cargo fmt --check
	cd plugins && cargo clippy -q --workspace --all-targets -- -D warnings

setup-build:
	@scripts/setup.sh cc wasm

setup-languages:
	@scripts/setup.sh languages

setup-test:
	@scripts/setup.sh cc wasm redis python node go
