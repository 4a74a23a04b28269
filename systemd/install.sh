#!/bin/sh
# Installs DoorPi as a service on Raspberry Pi OS or Debian, or upgrades it:
#
#   sudo sh systemd/install.sh [--no-start] [--offline-wheels DIR]
#
#   --no-start            install and enable only (a running door goes on as it is)
#   --offline-wheels DIR  take packages from DIR instead of the network: Python's, made by
#                         pip wheel --use-pep517 --wheel-dir DIR nfcpy tomli-w, and apt's
#                         (*.deb), as far as they are missing: it says how to get them
#
# Each version has a folder of its own under /opt/doorpi, with the libraries that apt does
# not have in `lib`: pure Python, so that a new Python of the system finds them as well.
# `current` points to the one in use, `old` to the last one before it that was seen ready.
# An upgrade is one rename of `current`, so a power cut at any moment leaves a door that
# starts. Each version holds this script, too:
#
#   sudo sh /opt/doorpi/current/systemd/install.sh     mends what is missing
#
# What the settings (/etc/doorpi) say and the data (/var/lib/doorpi) are never changed; a
# file of the settings that the service cannot read is given to its group.
set -u
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH HOME=/root LC_ALL=C.UTF-8

base=/opt/doorpi
data=/var/lib/doorpi
settings=/etc/doorpi/doorpi.toml
python=/usr/bin/python3
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
    leave_the_caller
    look_around
    packages
    account
    rules
    what_runs
    build
    config
    heal
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

# Nothing of the caller's folder or environment is used, but for the way to the network:
# it may hold modules for Python or settings of pip.
leave_the_caller() {
    cd / || exit 1
    ours='PYTHON[A-Z_]*|PIP_[A-Z_]*|XDG_[A-Z_]*|APT_CONFIG|DOORPI_CONFIG'
    ours="$ours|STATE_DIRECTORY|CREDENTIALS_DIRECTORY"
    for name in $(env | sed -nE "s/^($ours)=.*/\1/p"); do unset "$name"; done
}

look_around() {
    [ "$(id -u)" = 0 ] || die "needs root: sudo sh $0"
    for needed in apt-get dpkg-query systemctl systemd-sysusers flock; do
        command -v "$needed" >/dev/null || die "$needed is missing: this is for" \
            "Raspberry Pi OS and Debian 12 or newer"
    done
    for needed in doorpi.py doorpi.toml systemd/doorpi.service systemd/doorpi-clock.service \
        systemd/60-doorpi.rules systemd/modprobe.conf systemd/sysusers.conf \
        systemd/uninstall.sh; do
        [ -r "$source/$needed" ] || die "$source/$needed is missing: run this from a" \
            "complete copy of DoorPi"
    done
    # As long as systemd itself waits.
    ready_within_s=$(sed -n 's/^TimeoutStartSec=//p' "$source/systemd/doorpi.service")
    exec 9>/run/doorpi-install.lock || exit 1
    flock -n 9 || die "another installation is running"
}

# Is there a systemd to talk to? (Not while an image is being built.)
is_running() { [ -d /run/systemd/system ]; }

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Everything that has compiled parts comes from apt: the Pi Zero has no other source that
# fits it, and no patience for a compiler. No package of the owner's is removed for it.
must="python3 python3-pip python3-gpiozero python3-requests python3-cryptography"
must="$must libusb-1.0-0 ca-certificates"
may="python3-lgpio python3-tomli-w"
what_it_costs() { # to be without that package
    case $1 in
    python3-lgpio) echo "the lights stay dark, and relay and reset_gpio do nothing" ;;
    python3-tomli-w) echo "taken with the Python packages instead" ;;
    esac
}

packages() {
    # shellcheck disable=SC2086  # lists of words
    { wanted=$(absent $must) optional=$(absent $may); }
    lacking=$wanted$optional
    if [ -n "$wheels" ] && [ -n "$lacking" ]; then
        packages_brought_along
    elif [ -n "$wanted" ] || ! installed python3-lgpio; then
        say "packages: asking apt for$lacking"
        apt_get -o APT::Update::Error-Mode=any update || say "packages: apt-get update" \
            "failed; trying with the lists as they are"
    fi
    # shellcheck disable=SC2046,SC2086  # lists of words
    if [ -n "$wanted" ] && [ -z "$wheels" ]; then apt_get install $wanted || :; fi
    # shellcheck disable=SC2046,SC2086  # lists of words
    [ -z "$(absent $must)" ] || no_packages $(absent $must)
    for package in $optional; do
        if [ -z "$wheels" ] && has_candidate "$package"; then apt_get install "$package"; fi
    done
    arrived=
    for package in $lacking; do
        if installed "$package"; then arrived="$arrived $package"; else
            say "packages: no $package: $(what_it_costs "$package")"
        fi
    done
    say "packages: ${arrived:+installed$arrived; }what is needed is there"
    "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$("$python" --version) is too old: DoorPi needs Python 3.11 (Debian 12)"
}
absent() {
    for package in "$@"; do installed "$package" || printf ' %s' "$package"; done
}
has_candidate() {
    apt-cache policy "$1" 2>/dev/null | grep -q '^  Candidate: [^(]'
}
packages_brought_along() {
    set -- "$wheels"/*.deb
    if [ -e "$1" ]; then apt_get install "$@"; fi
}
no_packages() {
    if [ -n "$wheels" ]; then
        say "needed from apt, and not in $wheels: $*" >&2
        say "on a fresh system of the same kind that has internet, this leaves them in debs," \
            "from where *.deb belong into $wheels (with python3-lgpio, where there is one):" >&2
        die "mkdir debs; sudo apt-get install -y --no-install-recommends --download-only" \
            "-o Dir::Cache::archives=\$PWD/debs $*"
    fi
    case $apt_said in
    *"not valid yet"* | *"not yet valid"*) hint="; is the clock right? $(date)" ;;
    *resolv* | *"Could not connect"* | *unreachable* | *"timed out"*)
        hint="; is there a network? without one: --offline-wheels"
        ;;
    *) hint= ;;
    esac
    die "apt-get did not install $*: see above$hint"
}

# apt_get ARGUMENT...: what it prints is shown if it fails. In its first minutes a fresh
# system upgrades itself, and has apt locked.
apt_waits_s=300
apt_said=
apt_get() {
    began=$(uptime_s) told=
    until said=$(DEBIAN_FRONTEND=noninteractive apt-get -q -y -o APT::Get::Remove=false \
        -o APT::Install-Recommends=false "$@" 2>&1 </dev/null 9>&-); do
        if ! locked "$said" || [ $(($(uptime_s) - began)) -ge "$apt_waits_s" ]; then
            printf '%s\n' "$said" >&2
            apt_said="$apt_said $said"
            return 1
        fi
        [ -n "$told" ] || say "packages: another program has apt locked; waiting for it"
        told=yes
        sleep 3
    done
}
locked() { case $1 in *"Could not get lock"*) ;; *) return 1 ;; esac }

account() {
    put "$source/systemd/sysusers.conf" /etc/sysusers.d/doorpi.conf
    quietly systemd-sysusers /etc/sysusers.d/doorpi.conf ||
        die "the user doorpi could not be made, see above"
    # There before the first start: its owner is who the verbs of root act as.
    [ -d "$data" ] || install -d -o doorpi -g doorpi -m 0700 "$data" ||
        die "cannot make $data"
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
        { udevadm control --reload &&
            udevadm trigger --subsystem-match=usb --subsystem-match=gpio; } ||
            say "udev did not listen: unplug a USB reader and plug it in again"
    fi
    say "rules for USB readers and pins, and the readers' kernel drivers kept away"
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
stamp() { cat "$source/doorpi.py" "$source/doorpi.toml" "$source"/systemd/* | cksum; }

build() {
    if [ -n "$current" ] && [ "$(stamp)" = "$(cat "$base/$current/stamp" 2>/dev/null)" ] &&
        runs "$base/$current" 2>/dev/null; then
        new=$current
        precompile "$base/$new" # the system's Python may be another one since
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
    say "program: ready to run ($("$python" -I "$base/$new" --version))"
}

fill() {
    cp -R "$source/doorpi.py" "$source/doorpi.toml" "$source/systemd" "$1" &&
        mkdir "$1/lib" && launcher >"$1/__main__.py" && libraries "$1" &&
        precompile "$1" && runs "$1" && stamp >"$1/stamp" && sync
}

# The service and the command run this: python3 -I FOLDER.
launcher() {
    cat <<'PYTHON'
"""Starts the program of this folder, with the libraries of this folder."""
import os
import sys

here = os.path.dirname(os.path.realpath(__file__))  # not another one, after an upgrade
sys.path[:1] = [here, os.path.join(here, "lib")]
try:
    import doorpi  # compiled once; a script would be compiled at every start
except (ImportError, SyntaxError) as error:  # one line: systemd tries every 5 s
    sys.exit(f"{error}: sudo sh /opt/doorpi/current/systemd/install.sh")

sys.exit(doorpi.main())
PYTHON
}

# What apt does not have.
libraries() {
    where=$1 wanted=
    needed=$(sed -n '\|^# dependencies = \[|,\|^# \]|s/^#  *"\(.*\)",*$/\1/p' "$1/doorpi.py")
    for requirement in $needed; do
        installed "python3-${requirement%%[<>=]*}" || wanted="$wanted $requirement"
    done
    [ -n "$wanted" ] || return 1
    # pyDes has no wheel. Nothing else may be built here.
    if [ -n "$wheels" ]; then
        set -- --no-index --find-links "$wheels" --only-binary :all:
    else
        set -- --use-pep517 --only-binary :all: --no-binary pyDes
    fi
    # shellcheck disable=SC2086  # a list of words
    quietly "$python" -I -m pip --disable-pip-version-check --no-input install \
        --progress-bar off --no-compile --target "$where/lib" "$@" $wanted || return 1
    compiled=$(find "$where/lib" -name '*.so*')
    [ -z "$compiled" ] || {
        printf 'of one version of Python alone: %s\n' "$compiled" >&2
        return 1
    }
}
precompile() {
    quietly "$python" -I -m compileall -q "$1/doorpi.py" &&
        { quietly "$python" -I -m compileall -q "$1/lib" || :; }
}
runs() {
    quietly "$python" -I "$1" legend && quietly "$python" -I -c \
        'import sys; sys.path.append(sys.argv[1]); import nfc.clf.transport, tomli_w' "$1/lib"
}

# quietly COMMAND...: what it prints is shown if it fails.
quietly() {
    output=$("$@" 2>&1 </dev/null 9>&-) && return
    failed=$?
    printf '%s\n' "$output" >&2
    return "$failed"
}

config() {
    # A file that is made in it, or copied into it, has its group: the service's.
    { mkdir -p /etc/doorpi && chown root:doorpi /etc/doorpi &&
        chmod 2750 /etc/doorpi; } ||
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

# What the new version says about the settings.
checked() { STATE_DIRECTORY="$data" "$python" -I "$base/$new" check 2>&1 </dev/null 9>&-; }

# Settings, keys and certificates that an owner has put there as root alone can read them.
heal() {
    checked | sed -n 's/.*the service (user doorpi) cannot read \(.*\); sudo chgrp .*/\1/p' |
        while IFS= read -r file; do
            case $file in
            /etc/doorpi/*) ;;
            *) continue ;;
            esac
            if chgrp doorpi "$file" && chmod g+r "$file"; then
                say "settings: the service could not read $file; now its group may"
            fi
        done
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
        "STATE_DIRECTORY=\${STATE_DIRECTORY:-$data}" 'export STATE_DIRECTORY' \
        "exec $python -I $base/current \"\$@\"" >"$base/$new/wrapper"; } ||
        die "cannot write into $base"
    unit "$new"
    say "service: enabled, it starts at every boot"
    tidy
}

# The command and the units of a version. The door pulls in the second unit by itself:
# nothing to enable.
unit() {
    put "$base/$1/wrapper" /usr/local/bin/doorpi 0755
    for service in doorpi doorpi-clock; do
        file=$base/$1/systemd/$service.service
        [ -e "$file" ] || file=$base/$1/$service.service # of an installer before this
        put "$file" "/etc/systemd/system/$service.service"
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
    if [ -z "$old" ] || [ "$old" = "$new" ] || [ ! -e "$base/$old/doorpi.py" ]; then
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
    told=$(checked)
    code=$?
    to_do=$(printf '%s\n' "$told" | grep "still the example's")
    # A running door may have a key by systemd that nobody else can read.
    if [ "$code" = 78 ] && ! { is_running && [ "$(state)" = active ]; }; then
        to_do=$(printf '%s\n' "$told" | sed 1d)
    fi
    if [ -n "$to_do" ]; then
        say "next: 1. sudo nano $settings"
        printf '%s\n' "$to_do" | sed 's/^ */                  /'
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
