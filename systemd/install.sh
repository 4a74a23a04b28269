#!/bin/sh
# Installs DoorPi as a service on Raspberry Pi OS or Debian, or upgrades it:
#
#   sudo sh systemd/install.sh [--no-start] [--offline-wheels DIR]
#
#   --no-start            install and enable only (a running door goes on as it is)
#   --offline-wheels DIR  take Python packages from DIR instead of the network; made by
#                         pip wheel --use-pep517 --wheel-dir DIR nfcpy tomli-w
#
# Each version has a folder of its own under /opt/doorpi, with a virtual environment of its
# own; `current` points to the one in use, `old` to the last one before it that was seen
# ready. An upgrade is one rename of `current`, so a power cut at any moment leaves a door
# that starts. Settings (/etc/doorpi) and data (/var/lib/doorpi) are never touched.
set -u
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C.UTF-8

base=/opt/doorpi
settings=/etc/doorpi/doorpi.toml
ready_within_s=60
stays_s=3 # ready once, and still there after this

start=yes
wheels=
source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1

# Whoever installs over SSH may lose the connection: the work is finished all the same.
trap '' HUP PIPE
say() { printf 'doorpi: %s\n' "$*" || :; } 2>/dev/null
die() {
    say "$@" >&2
    exit 1
}
usage() {
    printf 'usage: sudo sh systemd/install.sh [--no-start] [--offline-wheels DIR]\n' >&2
    exit 2
}

main() {
    arguments "$@"
    look_around
    packages
    account
    rules
    what_runs
    build
    config
    switch
    if [ "$start" = no ] || ! is_running; then
        say "service: not started now"
        next_steps
        exit 0
    fi
    try_it
}

arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --no-start) start=no ;;
        --offline-wheels)
            [ $# -ge 2 ] || usage
            wheels=$(CDPATH='' cd -- "$2" 2>/dev/null && pwd -P) || die "$2: no such folder"
            shift
            ;;
        *) usage ;;
        esac
        shift
    done
}

look_around() {
    [ "$(id -u)" = 0 ] || die "needs root: sudo sh $0"
    for needed in apt-get dpkg-query systemctl systemd-sysusers flock; do
        command -v "$needed" >/dev/null || die "$needed is missing: this is for" \
            "Raspberry Pi OS and Debian 12 or newer"
    done
    for needed in doorpi.py doorpi.toml systemd/doorpi.service systemd/doorpi-clock.service \
        systemd/60-doorpi.rules systemd/modprobe.conf systemd/sysusers.conf; do
        [ -r "$source/$needed" ] || die "$source/$needed is missing: run this from a" \
            "complete copy of DoorPi"
    done
    exec 9>/run/doorpi-install.lock || exit 1
    flock -n 9 || die "another installation is running"
}

# Is there a systemd to talk to? (Not while an image is being built.)
is_running() { [ -d /run/systemd/system ]; }

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Everything that has compiled parts comes from apt: the Pi Zero has no other source that
# fits it, and no patience for a compiler. What not every suite has is taken where it is.
packages() {
    must="python3-venv python3-gpiozero python3-requests python3-cryptography"
    must="$must libusb-1.0-0 ca-certificates"
    may="python3-rpi-lgpio python3-lgpio python3-tomli-w"
    missing=
    for package in $must; do
        installed "$package" || missing="$missing $package"
    done
    wanted=$missing
    for package in $may; do
        installed "$package" || wanted="$wanted $package"
    done
    if [ -n "$missing" ]; then
        say "packages: asking apt for$missing"
        quietly apt-get -q update || say "packages: apt-get update failed; trying as it is"
    fi
    chosen=
    for package in $wanted; do
        case " $missing " in
        *" $package "*) chosen="$chosen $package" ;;
        *) if has_candidate "$package"; then chosen="$chosen $package"; fi ;;
        esac
    done
    if [ -n "$chosen" ]; then
        # shellcheck disable=SC2086  # a list of words
        DEBIAN_FRONTEND=noninteractive \
            quietly apt-get -q -y --no-install-recommends install $chosen ||
            [ -z "$missing" ] || die "apt-get failed, see above; nothing was changed." \
            "Is there a network? Is the clock set (TLS needs it)?"
        say "packages: installed$chosen"
    else
        say "packages: all there"
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$(python3 --version) is too old: DoorPi needs Python 3.11 (Debian 12)"
}
has_candidate() {
    apt-cache policy "$1" 2>/dev/null | grep -q '^  Candidate: [^(]'
}

account() {
    put "$source/systemd/sysusers.conf" /etc/sysusers.d/doorpi.conf
    quietly systemd-sysusers /etc/sysusers.d/doorpi.conf ||
        die "the user doorpi could not be made, see above"
    say "user doorpi, in the groups$(id -Gn doorpi | sed 's/^doorpi//')"
}

rules() {
    # doorpi.conf beside it is the owner's: what `doorpi doctor` says to add.
    put "$source/systemd/modprobe.conf" /etc/modprobe.d/doorpi-readers.conf
    put "$source/systemd/60-doorpi.rules" /etc/udev/rules.d/60-doorpi.rules
    if [ -S /run/udev/control ]; then
        for module in pn533_usb port100 pn533 nfc; do
            if [ -d "/sys/module/$module" ]; then modprobe -r "$module" 2>/dev/null || :; fi
        done
        # Readers that are plugged in already.
        { udevadm control --reload && udevadm trigger --subsystem-match=usb; } ||
            say "udev did not listen: unplug a USB reader and plug it in again"
    fi
    say "rules for USB readers, and their kernel drivers kept away"
}

# put FILE TARGET [MODE]: replaced in one step, readable by all, and only when it differs.
put() {
    if cmp -s "$1" "$2" && [ ! -L "$2" ]; then return; fi
    { mkdir -p "$(dirname -- "$2")" && rm -f "$2.new" && cp "$1" "$2.new" &&
        chmod "${3:-0644}" "$2.new" && mv -f "$2.new" "$2"; } || die "cannot write $2"
}

# Whether a door runs now. One that does is ready: its version is a place to go back to,
# unless it was put there with --no-start and never started since.
what_runs() {
    current=$(readlink "$base/current" 2>/dev/null) || current=
    old=$(readlink "$base/old" 2>/dev/null) || old=
    was_active=no
    if is_running && [ "$(state)" = active ]; then
        was_active=yes
        if [ -n "$current" ] &&
            [ "$(state InvocationID)" != "$(cat "$base/$current/not-yet" 2>/dev/null)" ]; then
            touch "$base/$current/was-ready"
        fi
    fi
}

# What a version is made from: the same again need not be built again.
stamp() {
    python3 -VV
    cat "$source/doorpi.py" "$source/doorpi.toml" "$source"/systemd/*.service | cksum
}

build() {
    if [ -n "$current" ] && [ "$(stamp)" = "$(cat "$base/$current/stamp" 2>/dev/null)" ] &&
        runs "$base/$current"; then
        new=$current
        say "program: this version is installed already ($base/$current)"
        return
    fi
    number=1
    while [ "$number" = "$current" ] || [ "$number" = "$old" ]; do
        number=$((number + 1))
    done
    new=$number
    say "program: building $base/$new (a minute; on a Pi Zero, several)"
    { rm -rf "${base:?}/$new" && mkdir -p "$base/$new" &&
        chmod 0755 "$base" "$base/$new"; } ||
        die "cannot write into $base"
    fill "$base/$new" || {
        rm -rf "${base:?}/$new"
        die "the program could not be built, see above; what was installed is untouched"
    }
    say "program: ready to run ($("$base/$new/venv/bin/python" -I -c \
        'import doorpi; print("version", doorpi.__version__)'))"
}

fill() {
    cp "$source/doorpi.py" "$source/doorpi.toml" "$source"/systemd/*.service "$1" &&
        quietly python3 -m venv --system-site-packages "$1/venv" || return 1
    # pyDes has no wheel, and is pure Python. Nothing else may be built here.
    pip_install "$1" pyDes || return 1
    sed -n '\|^# dependencies = \[|,\|^# \]|s/^#  *"\(.*\)",*$/\1/p' "$1/doorpi.py" \
        >"$1/requirements.txt"
    [ -s "$1/requirements.txt" ] || return 1
    pip_install "$1" --only-binary :all: --requirement "$1/requirements.txt" || return 1
    # `python -m doorpi` finds this version from wherever it is called.
    site=$("$1/venv/bin/python" -I -c 'import site; print(site.getsitepackages()[0])') &&
        printf '%s\n' "$1" >"$site/doorpi.pth" &&
        quietly "$1/venv/bin/python" -I -m compileall -q "$1/doorpi.py" &&
        runs "$1" && stamp >"$1/stamp" && sync
}
pip_install() {
    where=$1
    shift
    if [ -n "$wheels" ]; then set -- --no-index --find-links "$wheels" "$@"; fi
    quietly "$where/venv/bin/python" -I -m pip --disable-pip-version-check --no-input \
        install --progress-bar off "$@"
}
runs() { quietly "$1/venv/bin/python" -I -m doorpi legend; }

# quietly COMMAND...: what it prints is shown if it fails.
quietly() {
    output=$("$@" 2>&1 </dev/null 9>&-) && return
    failed=$?
    printf '%s\n' "$output" >&2
    return "$failed"
}

config() {
    { mkdir -p /etc/doorpi && chown root:doorpi /etc/doorpi &&
        chmod 0750 /etc/doorpi; } ||
        die "cannot make /etc/doorpi"
    if [ -e "$settings" ] || [ -L "$settings" ]; then
        say "settings: $settings is yours and stays as it is"
        return
    fi
    { (umask 077 && cp "$source/doorpi.toml" "$settings.new") &&
        chown root:doorpi "$settings.new" && chmod 0640 "$settings.new" &&
        mv -f "$settings.new" "$settings"; } || die "cannot write $settings"
    say "settings: the example is at $settings"
}

# point NAME VERSION: the link NAME, in one step.
point() { ln -sfn "$2" "$base/$1.new" && mv -fT "$base/$1.new" "$base/$1"; }

switch() {
    if [ "$new" != "$current" ]; then
        # One that was never seen ready is no place to go back to.
        if [ -n "$current" ] && [ -e "$base/$current/was-ready" ]; then
            old=$current
            point old "$old" || die "cannot write into $base"
        fi
        if [ "$was_active" = yes ]; then state InvocationID >"$base/$new/not-yet"; fi
        point current "$new" || die "cannot write into $base"
    fi
    { printf '%s\n' '#!/bin/sh' \
        '# DoorPi by hand; its log is where the service keeps it.' \
        "STATE_DIRECTORY=\${STATE_DIRECTORY:-/var/lib/doorpi}" 'export STATE_DIRECTORY' \
        "exec $base/current/venv/bin/python -I -m doorpi \"\$@\"" >"$base/$new/wrapper" &&
        put "$base/$new/wrapper" /usr/local/bin/doorpi 0755; } ||
        die "cannot write /usr/local/bin/doorpi"
    unit "$new"
    say "service: enabled, it starts at every boot"
    tidy
}

# The units of a version. The door pulls in the second by itself: nothing to enable.
unit() {
    for service in doorpi doorpi-clock; do
        put "$base/$1/$service.service" "/etc/systemd/system/$service.service"
    done
    if is_running; then quietly systemctl daemon-reload || :; fi
    quietly systemctl enable doorpi || die "systemctl enable failed, see above"
}

# Versions that nothing points to.
tidy() {
    for folder in "$base"/[0-9]*; do
        case ${folder##*/} in
        "$new" | "$old" | "$current") ;;
        *) rm -rf "$folder" ;;
        esac
    done
}

# The wall clock of a Pi may jump by years in the minutes after its start.
uptime_s() { cut -d. -f1 /proc/uptime; }
state() { systemctl show doorpi --property="${1:-ActiveState}" --value; }

# The new version is started and watched; what becomes of it decides what stays.
try_it() {
    if [ "$new" = "$current" ] && [ "$(state)" = active ] &&
        [ "$(state NeedDaemonReload)" = no ] && [ -e "$base/$new/was-ready" ]; then
        say "the door is running: $(state StatusText)"
        next_steps
        exit 0
    fi
    trap 'say "interrupted"; put_back; exit 130' INT TERM
    say "starting it, and waiting up to $ready_within_s s until it is ready"
    if come_up; then
        touch "$base/$new/was-ready"
        trap - INT TERM
        if [ "$new" != "$current" ] && [ -n "$current" ] && [ "$old" = "$current" ]; then
            say "the version before is kept in $base/$old"
        fi
        say "the door is running: $(state StatusText)"
        next_steps
        exit 0
    fi
    why
    if [ "$was_active" = no ] && [ "$(state ExecMainStatus)" = 78 ]; then
        # Nothing ran before, and the program itself is well: it has read the settings.
        say "installed, but the door does not start with the settings as they are"
        next_steps
        exit 0
    fi
    put_back
    exit 1
}

# True when the door is ready within the time and stays so.
come_up() {
    systemctl reset-failed doorpi 2>/dev/null || :
    systemctl --no-block try-restart doorpi-clock || :
    systemctl --no-block restart doorpi || return 1
    began=$(uptime_s)
    waited=0
    while [ "$waited" -lt "$ready_within_s" ]; do
        sleep 1
        waited=$(($(uptime_s) - began))
        # `active` may be the process that is about to be stopped.
        if [ "$(state Job)" != 0 ] && [ -n "$(state Job)" ] &&
            [ "$(state ActiveState)" != activating ]; then continue; fi
        case $(state) in
        active)
            process=$(state MainPID)
            sleep "$stays_s"
            [ "$(state)" = active ] && [ "$(state MainPID)" = "$process" ] && return 0
            ;;
        failed) return 1 ;;
        esac
    done
    return 1
}

why() {
    say "it is not ready after $waited s; its last words:"
    journalctl --unit doorpi --lines 8 --output cat --no-pager 2>/dev/null | sed 's/^/    /'
}

# Back to the version that was ready before this one.
put_back() {
    if [ -e "$base/$new/was-ready" ]; then
        say "this version was ready before; it is tried again every few seconds."
        say "what it says: journalctl -u doorpi"
        return
    fi
    if [ -z "$old" ] || [ "$old" = "$new" ] || [ ! -x "$base/$old/venv/bin/python" ]; then
        say "there is no earlier version to put back; it is tried again every few seconds."
        say "what it says: journalctl -u doorpi"
        return
    fi
    point current "$old" || die "cannot write into $base"
    unit "$old"
    if come_up; then
        say "the old version was put back and is running: $(state StatusText)"
    else
        why
        say "the old version was put back, but it does not come up either"
    fi
    say "the new one stays in $base/$new for a look; the next installation removes it"
}

next_steps() {
    if grep -q '^[^#]*"replace-me"' "$settings"; then
        say "next: 1. sudo nano $settings   (the reader, the lock's keys, who may enter)"
        say "      2. sudo doorpi check"
        say "      3. sudo systemctl restart doorpi"
        say "      4. sudo doorpi doctor"
    elif [ "$start" = no ] || ! is_running; then
        say "next: sudo systemctl restart doorpi   (until then this version is not in use)"
    elif [ "$(state)" != active ]; then
        say "next: sudo nano $settings; sudo doorpi check; sudo systemctl restart doorpi"
    else
        say "next: tap a card; sudo doorpi log tells who came, systemctl status doorpi how" \
            "the door is"
    fi
}

main "$@"
