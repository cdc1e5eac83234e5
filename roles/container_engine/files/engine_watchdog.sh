#!/bin/sh
# Starts an engine anew that runs and does not answer; RESTARTS times an hour at most.
# It loops, for a timer would write to the journal, which is small, at each turn.
set -u

: "${INTERVAL:?}" "${TIMEOUT:?}" "${FAILURES:?}" "${RESTARTS:?}"

# Not the clock: a Pi has none until it has asked for the time.
uptime() { cut -d . -f 1 /proc/uptime; }

# The unit that does not answer; nothing when both do.
stuck() {
    timeout --kill-after 5 "$TIMEOUT" ctr version > /dev/null 2>&1 || { echo containerd.service; return; }
    timeout --kill-after 5 "$TIMEOUT" docker ps --quiet --last 1 > /dev/null 2>&1 || echo docker.service
}

# The times of $1 that are within the last hour, but for those of long ago.
recent() {
    for moment in $1; do
        [ "$moment" -gt $(($(uptime) - 3600)) ] && printf '%s ' "$moment"
    done
}

failures=0
restarts=""
gave_up=""
while sleep "$INTERVAL"; do
    # One that starts, stops or failed is systemd's to care for.
    if ! systemctl is-active --quiet docker.service containerd.service; then
        failures=0
        continue
    fi
    unit=$(stuck)
    if [ -z "$unit" ]; then
        failures=0
        gave_up=""
        continue
    fi
    failures=$((failures + 1))
    [ "$failures" -ge "$FAILURES" ] || continue
    restarts=$(recent "$restarts")
    # shellcheck disable=SC2086 # they are to be split
    set -- $restarts
    if [ $# -ge "$RESTARTS" ]; then
        [ -n "$gave_up" ] || echo "$unit does not answer, and was started anew $# times within an hour: waiting"
        gave_up=yes
        continue
    fi
    echo "$unit has not answered $failures times in a row (each had $TIMEOUT s): starting it anew"
    failures=0
    restarts="$restarts$(uptime) "
    systemctl restart "$unit"
done
