#!/usr/bin/env bash
# Installs what building and testing need and is missing: a C toolchain, pkg-config, the headers of OpenSSL and zlib, Python 3, MariaDB's
# programs, an S3 server in Python, one that speaks Azure's protocol from npm; and, for the tests with a real Kafka, Java, Maven and kcat, without which the rest of the tests runs. Where it may not install, it says precisely what to install and ends with 1. Run it as often as you
# like: with everything there it takes a moment and changes nothing.
#
# No service is started or changed: the tests start private servers of their own. For this only the server's *programs* are
# installed (mariadb-server-core), not the package that would start a system-wide server.
set -euo pipefail
cd "$(dirname "$0")/.."

# The oldest compiler that Cargo.toml accepts (rust-version).
rust_wanted=1.95

export PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/usr/local/sbin:/usr/libexec"

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# What is missing, by what a person would call it; the names of packages differ by system.
missing=()
have cc && have g++ || missing+=(compiler)
have make || missing+=(make)
have pkg-config || missing+=(pkg-config)
if have pkg-config && have cc; then
    pkg-config --exists openssl || missing+=(openssl-headers)
    printf '#include <zlib.h>\n' | cc -E -x c - >/dev/null 2>&1 || missing+=(zlib-headers)
else
    missing+=(openssl-headers zlib-headers)
fi
have mariadbd && have mariadb-install-db || missing+=(mariadb-server)
# A small cloud in another language, which the tests of the cloud applier talk to.
have python3 || missing+=(python3)
# It holds the S3 server of the same tests.
have python3 && { python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv); }
have mariadb && have mariadb-binlog || missing+=(mariadb-client)

package() { # package MANAGER THING
    case "$1:$2" in
    apt-get:compiler) echo gcc g++ libc6-dev ;;
    apt-get:openssl-headers) echo libssl-dev ;;
    apt-get:zlib-headers) echo zlib1g-dev ;;
    apt-get:mariadb-server) echo mariadb-server-core ;;
    apt-get:mariadb-client) echo mariadb-client ;;
    apt-get:java) echo default-jdk-headless ;;
    apt-get:chromedriver) echo chromium-driver ;;
    dnf:chromedriver) echo chromedriver ;;
    dnf:prometheus) echo golang-github-prometheus ;;
    pacman:chromedriver) echo chromium ;;
    zypper:prometheus) echo golang-github-prometheus-prometheus ;;
    apk:chromedriver) echo chromium-chromedriver ;;
    dnf:java) echo java-17-openjdk-devel ;;
    pacman:java) echo jdk17-openjdk ;;
    pacman:python3) echo python ;;
    dnf:python3-venv | pacman:python3-venv | zypper:python3-venv | apk:python3-venv | brew:python3-venv) echo python3 ;;
    zypper:java) echo java-17-openjdk-devel ;;
    apk:java) echo openjdk17-jdk ;;
    brew:java) echo openjdk@17 ;;
    dnf:compiler) echo gcc gcc-c++ ;;
    dnf:pkg-config) echo pkgconf-pkg-config ;;
    dnf:openssl-headers) echo openssl-devel ;;
    dnf:zlib-headers) echo zlib-devel ;;
    dnf:mariadb-client) echo mariadb ;;
    pacman:compiler) echo gcc ;;
    pacman:pkg-config) echo pkgconf ;;
    pacman:openssl-headers) echo openssl ;;
    pacman:zlib-headers) echo zlib ;;
    pacman:mariadb-server) echo mariadb ;;
    pacman:mariadb-client) echo mariadb-clients ;;
    zypper:compiler) echo gcc gcc-c++ ;;
    zypper:openssl-headers) echo libopenssl-devel ;;
    zypper:zlib-headers) echo zlib-devel ;;
    zypper:mariadb-server) echo mariadb ;;
    apk:compiler) echo build-base ;;
    apk:pkg-config) echo pkgconf ;;
    apk:openssl-headers) echo openssl-dev ;;
    apk:zlib-headers) echo zlib-dev ;;
    apk:mariadb-server) echo mariadb ;;
    brew:compiler) echo gcc ;;
    brew:openssl-headers) echo openssl@3 ;;
    brew:zlib-headers) echo zlib ;;
    brew:mariadb-server | brew:mariadb-client) echo mariadb ;;
    *) echo "$2" ;;
    esac
}

packages() { # packages MANAGER
    local thing
    for thing in "${missing[@]}"; do package "$1" "$thing"; done | tr ' ' '\n' | awk '!seen[$0]++' | tr '\n' ' '
}

install_with_apt() {
    local as_root=() wanted
    if [ "$(id -u)" -ne 0 ]; then
        have sudo && sudo -n true 2>/dev/null || return 1
        as_root=(sudo -n)
    fi
    "${as_root[@]}" apt-get update -qq >&2 || return 1
    wanted=$(packages apt-get)
    # Older releases have the version in the name: mariadb-server-core-10.6.
    if ! apt-cache show mariadb-server-core >/dev/null 2>&1; then
        wanted=${wanted/mariadb-server-core/$(apt-cache pkgnames mariadb-server-core- | sort -V | tail -n 1)}
    fi
    say "installing: $wanted"
    # shellcheck disable=SC2086
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >&2
}

if [ ${#missing[@]} -gt 0 ]; then
    if have apt-get && install_with_apt; then
        say "installed."
    else
        say "missing: ${missing[*]}. Install them, then run this again:"
        have apt-get && say "  sudo apt-get install --no-install-recommends $(packages apt-get)"
        have dnf && say "  sudo dnf install $(packages dnf)"
        have pacman && say "  sudo pacman -S $(packages pacman)"
        have zypper && say "  sudo zypper install $(packages zypper)"
        have apk && say "  sudo apk add $(packages apk)"
        have brew && say "  brew install $(packages brew)"
        for manager in apt-get dnf pacman zypper apk brew; do have $manager && exit 1; done
        say "  (no package manager that we know was found)"
        exit 1
    fi
fi

# The tests with a real Kafka want these; without them one line says that they did not run.
missing=()
have java && have keytool && have javac || missing+=(java)
have mvn || missing+=(maven)
have kcat || missing+=(kcat)
if [ ${#missing[@]} -gt 0 ] && ! { have apt-get && install_with_apt; }; then
    say "not installed: ${missing[*]}. Without them the tests with a real Kafka do not run; everything else does."
fi

# The S3 server of the cloud's tests, in an environment of its own below target/. Without it those tests fail, and say so.
s3_wanted=tests/s3/requirements.txt
s3_place=${CARGO_TARGET_DIR:-target}/harness/s3-server
if ! cmp -s "$s3_wanted" "$s3_place/installed.txt"; then
    say "installing an S3 server for the tests into $s3_place"
    if python3 -m venv --clear "$s3_place" && "$s3_place/bin/python" -m pip install --quiet --disable-pip-version-check -r "$s3_wanted" >&2; then
        cp "$s3_wanted" "$s3_place/installed.txt"
    else
        say "not installed: the S3 server. Without it the tests with an object store fail; everything else runs. See that pip reaches its index."
    fi
fi

# A server that speaks Azure's protocol, for the same tests: the same, where there is npm.
azure_wanted=tests/azure/package.json
azure_place=${CARGO_TARGET_DIR:-target}/harness/azure-server
missing=()
have node && have npm || missing+=(npm)
if [ ${#missing[@]} -gt 0 ] && ! { have apt-get && install_with_apt; }; then
    say "not installed: npm, and so no server that speaks Azure's protocol. Without it two tests do not run; everything else does."
elif ! cmp -s "$azure_wanted" "$azure_place/package.json" || [ ! -d "$azure_place/node_modules/azurite" ]; then
    say "installing a server that speaks Azure's protocol into $azure_place"
    mkdir -p "$azure_place" && cp "$azure_wanted" "$azure_place/package.json"
    if ! (cd "$azure_place" && npm install --silent --no-audit --no-fund --no-package-lock >&2); then
        rm -rf "$azure_place"
        say "not installed: the server that speaks Azure's protocol. Without it two tests do not run; everything else does. See that npm reaches its registry."
    fi
fi

# The dashboard in a browser, and what Prometheus makes of the metrics: the same.
missing=()
have chromium || missing+=(chromium)
have chromedriver || missing+=(chromedriver)
have promtool && have prometheus || missing+=(prometheus)
if [ ${#missing[@]} -gt 0 ] && ! { have apt-get && install_with_apt; }; then
    say "not installed: ${missing[*]}. Without them the tests of the dashboard in a browser, of the alerts and of the panels do not run; everything else does."
fi

# The statements of MariaDB's own tests, which are run through a pair of nodes: the same.
missing=()
[ -d /usr/share/mysql/mysql-test/main ] || [ -d /usr/share/mariadb/mariadb-test/main ] || [ -d /usr/share/mysql-test/main ] || missing+=(mariadb-test-data)
if [ ${#missing[@]} -gt 0 ] && ! { have apt-get && install_with_apt; }; then
    say "not installed: the test files of MariaDB (mariadb-test-data, elsewhere mariadb-test). Without them one test does not run; everything else does."
fi

if ! have cargo; then
    say "missing: Rust $rust_wanted or newer, with clippy and rustfmt. Install it with rustup (https://rustup.rs), then run this again."
    exit 1
fi
rust=$(rustc --version | awk '{ print $2 }')
if [ "$(printf '%s\n%s\n' "$rust_wanted" "$rust" | sort -V | head -n 1)" != "$rust_wanted" ]; then
    say "Rust $rust is too old, $rust_wanted or newer is needed: rustup update stable"
    exit 1
fi
for part in clippy rustfmt; do
    if ! cargo "${part/rustfmt/fmt}" --version >/dev/null 2>&1; then
        say "missing: $part. Install it: rustup component add $part"
        exit 1
    fi
done
