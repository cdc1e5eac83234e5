# What set-up says: each step's name, that it goes on, and how long it took.
# shellcheck shell=bash

BEGIN=$(date +%s%N)
HEARTBEAT_SECONDS=8

elapsed() { awk -v a="$1" -v b="$(date +%s%N)" 'BEGIN { printf "%.1f s", (b - a) / 1e9 }'; }

fail() {
    echo "error: $1" >&2
    exit 1
}

skipped() { echo "  ok  $1"; }

# Run a command; its output goes to a log that is shown if it fails.
step() {
    local title=$1 start log status=0 beater
    shift
    start=$(date +%s%N)
    log=$(mktemp)
    echo "==> $title"
    (
        while sleep "$HEARTBEAT_SECONDS"; do
            echo "    … $(elapsed "$start"): $(tail -n 1 "$log" | cut -c 1-100)"
        done
    ) &
    beater=$!
    # A subshell with errexit of its own: `||` would switch it off in the function that is called.
    set +e
    (set -e; "$@") > "$log" 2>&1 < /dev/null
    status=$?
    set -e
    kill "$beater" 2>/dev/null || true
    wait "$beater" 2>/dev/null || true
    if [ "$status" -ne 0 ]; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        fail "after $(elapsed "$start"), $title: ended with $status (its last lines are above)"
    fi
    rm -f "$log"
    echo "    done in $(elapsed "$start")"
}

# sudo where we are not root; what it does is printed, for it may ask for a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}
