#!/bin/sh
# Installs what the Makefile needs and this machine lacks. Written for Debian 12 with rustup's Rust.
#   scripts/setup.sh [wasm] [redis] [cc] [python] [node] [go]
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

packages="" wasm=""
for thing in "$@"; do
    case $thing in
        wasm) wasm=yes ;;
        redis) want redis-server redis-server ;;
        cc) want cc build-essential ;;
        python) want python3 python3 ;;
        node) want node nodejs ;;
        go) want go golang-go ;;
        *) say "unknown: $thing (there are wasm, redis, cc, python, node, go)" >&2; exit 2 ;;
    esac
done
install
if [ "$wasm" ]; then wasm; fi
