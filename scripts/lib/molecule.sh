# The scenarios of molecule/, three side by side. Expects steps.sh, and $logs for what they print.
# shellcheck shell=bash

# The scenarios' names; with `native` those on the machine's own processor only.
# Those that take longest first: emulated ones, and these.
LONG=" provision supervisor "
# They wait for containers and units: three keep two processors busy.
AT_ONCE=3

scenarios() {
    local folder emulated=() long=() native=()
    for folder in molecule/*/molecule.yml; do
        folder=$(dirname "$folder")
        if grep -qE 'container_arch: *(aarch64|armv7hf)' "$folder/inventory.yml"; then
            emulated+=("${folder#molecule/}")
        elif [[ "$LONG" = *" ${folder#molecule/} "* ]]; then
            long+=("${folder#molecule/}")
        else
            native+=("${folder#molecule/}")
        fi
    done
    [ "${1:-}" = native ] || printf '%s ' "${emulated[@]}"
    printf '%s ' "${long[@]}" "${native[@]}"
}

# What the scenarios of the arguments run in; minutes under qemu where it is not there yet.
molecule_images() {
    local name arch
    .venv/bin/python -m gantry.deployment.images raspberry-pi-os || return 1
    for arch in aarch64 armv7hf; do
        for name in "$@"; do
            if grep -qE "container_arch: *$arch" "molecule/$name/inventory.yml"; then
                .venv/bin/python -m gantry.deployment.images --arch "$arch" raspberry-pi-os || return 1
                break
            fi
        done
    done
}

# Every container has a systemd that watches files; Debian's limit is meant for one.
enough_watches() {
    local limit=512 found
    found=$(cat /proc/sys/fs/inotify/max_user_instances)
    [ "$found" -ge "$limit" ] && return 0
    echo "    fs.inotify.max_user_instances is $found, too few for a dozen systems: set to $limit"
    as_root sysctl --quiet --write fs.inotify.max_user_instances="$limit"
}

run_scenario() {
    local name=$1 start status=0
    start=$(date +%s%N)
    NO_COLOR=1 MOLECULE_COMMAND_BORDERS=false scripts/molecule test -s "$name" \
        > "$logs/molecule-$name" 2>&1 < /dev/null || status=$?
    # One write: two scenarios may end at once.
    if [ "$status" -eq 0 ]; then
        echo "    scenario $name passed after $(elapsed "$start")"
    else
        { cat "$logs/molecule-$name"; echo "    scenario $name failed after $(elapsed "$start")"; }
    fi
    rm -f "$logs/molecule-$name"
    return "$status"
}

# run_molecule [SCENARIO…]
run_molecule() {
    local name known failed=0 running=0
    known=$(scenarios)
    for name in "$@"; do
        [[ " $known " = *" $name "* ]] || fail "no scenario $name: there are $known"
    done
    # shellcheck disable=SC2086
    set -- ${*:-$known}
    enough_watches || return 1
    molecule_images "$@" || return 1
    for name in "$@"; do
        if [ "$running" -eq "$AT_ONCE" ]; then
            wait_for_one || failed=1
            running=$((running - 1))
        fi
        run_scenario "$name" &
        running=$((running + 1))
    done
    while [ "$running" -gt 0 ]; do
        wait_for_one || failed=1
        running=$((running - 1))
    done
    return "$failed"
}

# The next job that ends, with a sign of life now and then.
wait_for_one() {
    local beat status=0
    (while sleep "$HEARTBEAT_SECONDS"; do echo "    … $(elapsed "$BEGIN") $(last_tasks)"; done) &
    beat=$!
    # The heart's own job is none of those that are waited for.
    disown "$beat"
    wait -n || status=$?
    kill "$beat" 2>/dev/null || true
    return "$status"
}

last_tasks() {
    local log
    for log in "$logs"/molecule-*; do
        [ "$(find "$log" -mmin -2 2>/dev/null)" ] || continue
        printf '%s: %s  ' "${log##*molecule-}" "$(grep -oE '^TASK \[[^]]*' "$log" | tail -n 1 | cut -c 7-60)"
    done
}
