#!/bin/sh
# Takes a reading every INTERVAL seconds into the volume, and serves the last ones to `web`.
set -eu

interval="${INTERVAL:-5}"
readings=/data/readings.ndjson
touch "$readings"

python3 -m http.server --directory /data 8081 >/dev/null 2>&1 &
server=$!
trap 'kill "$server"; exit 0' TERM INT

number=$(tail -n 1 "$readings" | sed -n 's/.*"number": \([0-9]*\).*/\1/p')
number=${number:-0}
echo "worker: a reading every $interval s, $number so far"

while kill -0 "$server" 2>/dev/null; do
    number=$((number + 1))
    read -r load _ </proc/loadavg
    printf '{"number": %d, "time": "%s", "load": %s}\n' \
        "$number" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$load" >>"$readings"
    # The last hundred, put in place at once: a reader sees the old file or the new one.
    tail -n 100 "$readings" >"$readings.new"
    mv "$readings.new" "$readings"
    echo "worker: reading $number: load $load"
    # In the background, so that a signal is heard while it sleeps.
    sleep "$interval" &
    wait $!
done
echo "worker: its server has ended" >&2
exit 1
