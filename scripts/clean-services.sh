#!/usr/bin/env bash
# Ends what `make demo KEEP=1` left running, by the process ids it wrote down, and removes its directory. Nothing is ended by
# name: a MariaDB of yours is not touched.
set -euo pipefail
cd "$(dirname "$0")/.."
kept="${CARGO_TARGET_DIR:-target}/demo"

# A process id may have been given to another program since: end it only while it still runs from our directory.
ours() { # ours PID
    local place
    place=$(readlink "/proc/$1/cwd" 2>/dev/null) || return 1
    [[ $place == "$(realpath "$kept")"* ]]
}

ended=0
if [ -f "$kept/processes" ]; then
    while read -r pid what; do
        if ours "$pid"; then
            kill -TERM "$pid" && echo "asked $what (process $pid) to end" && ended=$((ended + 1))
        fi
    done <"$kept/processes"
    for _ in $(seq 100); do
        alive=0
        while read -r pid _; do ours "$pid" && alive=1; done <"$kept/processes"
        [ $alive -eq 0 ] && break
        sleep 0.1
    done
    while read -r pid what; do
        if ours "$pid"; then
            kill -KILL "$pid" && echo "$what (process $pid) did not end by itself and was killed"
        fi
    done <"$kept/processes"
    rm -rf "$kept"
fi
[ $ended -gt 0 ] || echo "nothing was left running"
