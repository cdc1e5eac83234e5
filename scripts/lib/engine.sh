# A Docker Engine that answers: systemd's where systemd is PID 1, else one started by hand.
# shellcheck shell=bash

ENGINE_PID=/var/run/docker.pid
CONTAINERD_PID=/var/run/docker/containerd/containerd.pid
ENGINE_LOG=/var/log/dockerd.log
ENGINE_WAIT_SECONDS=60

# Asks through `docker`, so that a context or DOCKER_HOST of the user's counts.
engine_answers() { timeout 10 docker version >/dev/null 2>&1; }

# As root: a user who is not yet in the group cannot ask.
engine_answers_root() { as_root timeout 10 docker version >/dev/null 2>&1; }

start_engine() {
    if engine_answers || engine_answers_root; then
        skipped "Docker answers"
    elif [ -d /run/systemd/system ]; then
        step "Docker, by systemd" start_with_systemd
    else
        step "Docker, by hand (log: $ENGINE_LOG, pid file: $ENGINE_PID)" start_by_hand
    fi
}

start_with_systemd() {
    as_root systemctl enable --now docker.service
    wait_for_engine || {
        as_root journalctl -u docker.service -n 20 --no-pager
        return 1
    }
}

start_by_hand() {
    local pid
    if pid=$(pid_in "$ENGINE_PID" dockerd); then
        echo "dockerd runs (pid $pid) and may be starting"
        wait_for_engine && return
        echo "dockerd (pid $pid) does not answer: see $ENGINE_LOG, stop it and try again"
        return 1
    fi
    # dockerd takes a file's process for its own or its containerd's, gone or another's by now.
    as_root rm -f "$ENGINE_PID"
    pid_in "$CONTAINERD_PID" containerd || as_root rm -f "$CONTAINERD_PID"
    mount_cgroups
    # setsid: it outlives this shell and its terminal.
    as_root sh -c "setsid dockerd --pidfile $ENGINE_PID >> $ENGINE_LOG 2>&1 < /dev/null &"
    wait_for_engine || {
        as_root tail -n 20 "$ENGINE_LOG"
        return 1
    }
}

# The process that a pid file names, if it is alive and runs the program.
pid_in() {
    local pid
    pid=$(as_root cat "$1" 2>/dev/null) && [[ $(as_root readlink "/proc/$pid/exe") == */"$2"* ]] &&
        echo "$pid"
}

# Without systemd, nobody may have mounted them: version 2, unless the kernel has version 1 only.
mount_cgroups() {
    if grep -qs ' /sys/fs/cgroup' /proc/mounts; then return; fi
    as_root mount -t cgroup2 cgroup2 /sys/fs/cgroup
}

wait_for_engine() {
    local end=$((SECONDS + ENGINE_WAIT_SECONDS))
    until engine_answers_root; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.5
    done
}

# The socket is its group's. Membership begins with the next login; until then, `sg` lends it.
join_docker_group() {
    if engine_answers; then return; fi
    if ! id -nG "$(id -un)" | tr ' ' '\n' | grep -qx docker; then
        step "user $(id -un) joins the group docker (whoever is in it can become root)" \
            as_root usermod -aG docker "$(id -un)"
    fi
    echo "    note: log in again, or type \`newgrp docker\`, for the membership to count here"
}
