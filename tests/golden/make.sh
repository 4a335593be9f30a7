#!/bin/sh
# Writes <setting>.binlog and <setting>.json into a directory (this one by default), from the MariaDB on the path.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
TANDEM_WRITE_GOLDEN=$(cd "${1:-$here}" && pwd)
export TANDEM_WRITE_GOLDEN
cd "$here/../.."
exec cargo test --locked --test live types::every_type
