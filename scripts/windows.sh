#!/usr/bin/env bash
# Type-checks the program for Windows, with every lint, on a machine that is none. Without the Kafka client, which would need an OpenSSL for
# Windows. Installs nothing: what is missing is named, and it ends with 1.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-pc-windows-gnu

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

missing=()
[ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] || missing+=("the standard library of Rust for Windows:  rustup target add $target")
if ! have x86_64-w64-mingw32-gcc; then
    how="mingw-w64's gcc for x86_64 (x86_64-w64-mingw32-gcc)"
    have apt-get && how="sudo apt-get install --no-install-recommends gcc-mingw-w64-x86-64"
    have dnf && how="sudo dnf install mingw64-gcc"
    have pacman && how="sudo pacman -S mingw-w64-gcc"
    have apk && how="sudo apk add mingw-w64-gcc"
    have brew && how="brew install mingw-w64"
    missing+=("a C compiler for Windows (SQLite, zstd and ring hold C):  $how")
fi
if [ ${#missing[@]} -gt 0 ]; then
    say "missing, install it and run this again:"
    for thing in "${missing[@]}"; do say "  $thing"; done
    exit 1
fi

# The same for this system first: it is quicker, and says more of what only the missing client breaks.
cargo clippy --locked --no-default-features --all-targets -- -D warnings
cargo clippy --locked --no-default-features --target "$target" --bin tandem -- -D warnings
