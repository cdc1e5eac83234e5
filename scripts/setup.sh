#!/bin/bash
# Set-up of a machine that deploys and develops Gantry: Debian 12 or 13, root or sudo, with or
# without systemd as PID 1. Changes nothing the second time. Called by every `make` target.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib/steps.sh
. scripts/lib/engine.sh

MINIMUM_FREE_GB=10
PACKAGES=(
    arch-test binfmt-support ca-certificates curl debian-archive-keyring docker.io git iproute2
    iptables make mmdebstrap mount openssh-client python3 python3-venv qemu-user-static uidmap zstd
)
CONFIG="${GANTRY_CONFIG_HOME:-$HOME/.config/gantry}"
CACHE="${GANTRY_CACHE_HOME:-$HOME/.cache/gantry}"

missing_packages() {
    local package
    local packages=("${PACKAGES[@]}")
    # Debian 13 has the client in a package of its own.
    if ! command -v docker >/dev/null && apt-cache show docker-cli >/dev/null 2>&1; then
        packages+=(docker-cli)
    fi
    for package in "${packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            echo "$package"
    done
}

# Nothing is changed before all of this holds.
preflight() {
    local folder free
    if ! { [ -r /etc/os-release ] && . /etc/os-release &&
        [[ " $ID ${ID_LIKE:-} " == *" debian "* ]] && command -v apt-get >/dev/null; }; then
        fail "this is not a Debian-like system: Gantry is set up on Debian 12 or 13"
    fi
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        fail "neither root nor sudo: run as root, or install sudo and add $(id -un) to its group"
    fi
    for folder in "$PWD" /var/lib; do
        free=$(df --output=avail -B G "$folder" | tail -n 1 | tr -dc 0-9)
        if [ "$free" -lt "$MINIMUM_FREE_GB" ]; then
            fail "only $free GB free in $folder: images and builds need $MINIMUM_FREE_GB GB"
        fi
    done
    # What is set up already needs no network.
    if { [ -n "$(missing_packages)" ] || ! venv_is_current; } && ! network_answers; then
        fail "no network: neither deb.debian.org nor pypi.org can be reached"
    fi
}

network_answers() {
    local host
    for host in deb.debian.org pypi.org; do
        if timeout 10 bash -c "exec 3<>/dev/tcp/$host/80" 2>/dev/null; then return 0; fi
    done
    # Behind a proxy, hosts are not reached directly; apt and pip know it.
    [ -n "${http_proxy:-${HTTP_PROXY:-${https_proxy:-${HTTPS_PROXY:-}}}}" ]
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    if [ "${#missing[@]}" -eq 0 ] && command -v docker >/dev/null; then
        skipped "Debian packages"
        return
    fi
    if ! apt_can_install "${missing[@]}"; then
        step "apt-get update" as_root apt-get update -q
        # Only now is it known whether this Debian has docker-cli.
        mapfile -t missing < <(missing_packages)
    fi
    step "Debian packages: ${missing[*]}" as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# Lists of more than a day ago may name packages that the archive has replaced since.
apt_can_install() {
    [ -n "$(find /var/lib/apt/lists/partial -maxdepth 0 -mmin -1440 2>/dev/null)" ] &&
        apt-get install -s --no-install-recommends "$@" >/dev/null 2>&1
}

binfmt_is_on() {
    [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] && [ -e /proc/sys/fs/binfmt_misc/qemu-arm ]
}

enable_binfmt() {
    if binfmt_is_on; then
        skipped "ARM programs run here (binfmt_misc, qemu)"
        return
    fi
    step "ARM programs run here (binfmt_misc, qemu)" register_qemu
}

register_qemu() {
    local name
    if [ ! -e /proc/sys/fs/binfmt_misc/register ]; then
        as_root mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    fi
    for name in qemu-aarch64 qemu-arm; do
        [ -e "/proc/sys/fs/binfmt_misc/$name" ] || as_root update-binfmts --enable "$name"
    done
    if ! binfmt_is_on; then
        fail "binfmt_misc does not take qemu-aarch64 and qemu-arm: see update-binfmts --display"
    fi
}

venv_stamp() {
    { /usr/bin/python3 --version; cat requirements.txt scripts/uv-requirements.txt pyproject.toml; pwd; } | sha256sum
}

venv_is_current() {
    [ -x .venv/bin/gantry ] && [ "$(cat .venv/gantry-stamp 2>/dev/null)" = "$(venv_stamp)" ]
}

make_venv() {
    if venv_is_current; then
        skipped "Python environment .venv"
        return
    fi
    step "Python environment .venv" install_venv
}

install_venv() {
    rm -f .venv/gantry-stamp
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        /usr/bin/python3 -m venv --clear .venv
    fi
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes \
        -r scripts/uv-requirements.txt
    export VIRTUAL_ENV="$PWD/.venv" UV_SYSTEM_CERTS=1
    .venv/bin/uv pip sync -q --require-hashes requirements.txt
    .venv/bin/uv pip install -q --no-deps --editable .
    venv_stamp > .venv/gantry-stamp
}

settings_are_there() {
    [ -s "$CONFIG/pulumi-passphrase" ] && [ -d "$CONFIG/state" ] && [ -d "$CACHE" ]
}

make_settings() {
    if settings_are_there; then
        skipped "settings in $CONFIG"
        return
    fi
    step "settings in $CONFIG: a passphrase for Pulumi's secrets, a folder for its state" \
        write_settings
}

write_settings() {
    mkdir -p "$CONFIG" "$CACHE"
    chmod 0700 "$CONFIG"
    mkdir -p -m 0700 "$CONFIG/state"
    if [ ! -s "$CONFIG/pulumi-passphrase" ]; then
        (umask 077 && head -c 32 /dev/urandom | base64 | tr -d '\n=' > "$CONFIG/pulumi-passphrase.new")
        mv "$CONFIG/pulumi-passphrase.new" "$CONFIG/pulumi-passphrase"
    fi
}

# The Pulumi CLI writes its salt into the stacks' files: docs/decisions/0005-encryptionsalt.md.
FILTER="sed -e '/^encryptionsalt:/d'"

filter_is_set() {
    ! git rev-parse --git-dir >/dev/null 2>&1 ||
        [ "$(git config --local filter.pulumi-stack.clean)" = "$FILTER" ]
}

filter_salt() {
    if filter_is_set; then
        skipped "git keeps Pulumi's salt out of the stacks' files"
        return
    fi
    step "git keeps Pulumi's salt out of the stacks' files" \
        git config --local filter.pulumi-stack.clean "$FILTER"
}

# Plain `pulumi up --stack devbots` is to work: the stacks exist in the backend.
make_stacks() {
    if ! command -v pulumi >/dev/null; then return 0; fi
    step "stacks of the Pulumi CLI" init_stacks
}

init_stacks() {
    local file name known
    export PULUMI_BACKEND_URL="file://$CONFIG/state"
    export PULUMI_CONFIG_PASSPHRASE_FILE="$CONFIG/pulumi-passphrase"
    known=$(pulumi stack ls --json)
    for file in stacks/Pulumi.*.yaml; do
        name=${file#stacks/Pulumi.}
        name=${name%.yaml}
        [[ "$known" == *"\"name\": \"$name\""* ]] ||
            pulumi stack init "$name" --secrets-provider passphrase
    done
    # The filter leaves nothing to commit; without this, git status shows an empty change.
    if git diff --quiet -- stacks; then git add stacks; fi
}

preflight
install_packages
enable_binfmt
start_engine
join_docker_group
make_venv
make_settings
filter_salt
make_stacks

cat <<END
ready, after $(elapsed "$BEGIN")
For the Pulumi CLI in this shell:
  export PULUMI_BACKEND_URL=file://$CONFIG/state
  export PULUMI_CONFIG_PASSPHRASE_FILE=$CONFIG/pulumi-passphrase
END
