#!/bin/sh
# Installs DoorPi as a service on Raspberry Pi OS or Debian, or upgrades it:
#
#   sudo sh systemd/install.sh [--no-start] [--offline-wheels DIR]
#
#   --no-start            install and enable only; a running door is not restarted
#   --offline-wheels DIR  take packages from DIR instead of the network: wheels made with
#                         pip wheel --use-pep517 --wheel-dir DIR nfcpy tomli-w segno paho-mqtt
#                         and Debian packages (*.deb) if some are missing: it says which
#
# Each version has its own folder under /opt/doorpi. The libraries that apt does not have are
# in its folder `lib`: pure Python, so that they still work after an upgrade of Python.
# The link `current` points to the version in use, `old` to the last earlier one that became
# ready. An upgrade is one rename of `current`, so a power cut at any moment leaves a door
# that starts. Each version also contains this script, which restores what is missing:
#
#   sudo sh /opt/doorpi/current/systemd/install.sh
#
# The contents of the settings (/etc/doorpi) and the data (/var/lib/doorpi) are never changed.
# A file of the settings that the service cannot read is given to the service's group.
set -u
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH HOME=/root LC_ALL=C.UTF-8

base=/opt/doorpi
data=/var/lib/doorpi
settings=/etc/doorpi/doorpi.toml
python=/usr/bin/python3
stays_s=3 # a version is good if it still runs so long after it became ready

start=yes
wheels=
source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1

# Finish the work even if the SSH connection breaks.
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

# Use nothing of the caller's folder and environment, which may hold Python modules or settings
# of pip; only variables for a proxy are kept.
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
        systemd/doorpi-online.service systemd/doorpi-online.path systemd/doorpi@.service \
        systemd/doorpi-online@.service systemd/doorpi-online@.path systemd/60-doorpi.rules \
        systemd/modprobe.conf systemd/sysusers.conf systemd/uninstall.sh; do
        [ -r "$source/$needed" ] || die "$source/$needed is missing: run this from a" \
            "complete copy of DoorPi"
    done
    # As long as systemd waits.
    ready_within_s=$(sed -n 's/^TimeoutStartSec=//p' "$source/systemd/doorpi.service")
    exec 9>/run/doorpi-install.lock || exit 1
    flock -n 9 || die "another installation is running"
}

# Whether systemd is running. (It is not while an image is being built.)
is_running() { [ -d /run/systemd/system ]; }

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Everything with compiled parts comes from apt: there are no other binaries for a Pi Zero, and
# compiling on it takes too long. No package of the owner is removed.
must="python3 python3-pip python3-gpiozero python3-cryptography"
must="$must libusb-1.0-0 ca-certificates"
may="python3-lgpio python3-tomli-w python3-segno"
what_it_costs() { # ... to be without that package
    case $1 in
    python3-lgpio) echo "the lights stay dark, and relay and reset_gpio do nothing" ;;
    python3-tomli-w | python3-segno) echo "installed with pip instead" ;;
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
            "failed; continuing with the old package lists"
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
    say "packages: ${arrived:+installed$arrived; }everything needed is there"
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
        say "these Debian packages are missing, and are not in $wheels: $*" >&2
        say "on a fresh system of the same kind with internet, run this, then copy debs/*.deb" \
            "to $wheels (add python3-lgpio if that system has it):" >&2
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

# apt_get ARGUMENT...: its output is shown if it fails. A fresh system upgrades itself in its
# first minutes, and keeps apt locked meanwhile.
apt_waits_s=300
apt_said=
apt_get() {
    began=$(uptime_s) announced=
    until said=$(DEBIAN_FRONTEND=noninteractive apt-get -q -y -o APT::Get::Remove=false \
        -o APT::Install-Recommends=false "$@" 2>&1 </dev/null 9>&-); do
        if ! locked "$said" || [ $(($(uptime_s) - began)) -ge "$apt_waits_s" ]; then
            printf '%s\n' "$said" >&2
            apt_said="$apt_said $said"
            return 1
        fi
        [ -n "$announced" ] || say "packages: another program has apt locked; waiting for it"
        announced=yes
        sleep 3
    done
}
locked() { case $1 in *"Could not get lock"*) ;; *) return 1 ;; esac }

account() {
    put "$source/systemd/sysusers.conf" /etc/sysusers.d/doorpi.conf
    quietly systemd-sysusers /etc/sysusers.d/doorpi.conf ||
        die "the user doorpi could not be created, see above"
    # It must exist before the first start: commands that root runs act as its owner.
    [ -d "$data" ] || install -d -o doorpi -g doorpi -m 0700 "$data" ||
        die "cannot create $data"
    say "user doorpi, in the groups$(id -Gn doorpi | sed 's/^doorpi//')"
}

rules() {
    # doorpi.conf in the same folder belongs to the owner, for what `doorpi doctor` advises.
    put "$source/systemd/modprobe.conf" /etc/modprobe.d/doorpi-readers.conf
    put "$source/systemd/60-doorpi.rules" /etc/udev/rules.d/60-doorpi.rules
    if [ -S /run/udev/control ]; then
        for module in pn533_usb port100 pn533 nfc; do
            if [ -d "/sys/module/$module" ]; then modprobe -r "$module" 2>/dev/null || :; fi
        done
        # For readers that are already plugged in.
        { udevadm control --reload &&
            udevadm trigger --subsystem-match=usb --subsystem-match=gpio; } ||
            say "udev did not answer: unplug a USB reader and plug it in again"
    fi
    say "rules: USB readers and pins may be used, and no kernel driver takes a reader"
}

# put FILE TARGET [MODE]: replace TARGET in one step, if it differs; readable by everybody.
put() {
    if cmp -s "$1" "$2" && [ ! -L "$2" ]; then return; fi
    { mkdir -p "$(dirname -- "$2")" && rm -f "$2.new" && cp "$1" "$2.new" &&
        chmod "${3:-0644}" "$2.new" && mv -f "$2.new" "$2"; } || die "cannot write $2"
}

# Find out what runs now. A running version is ready, so it can be put back later, unless it
# was installed with --no-start and has never been started.
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

# A checksum of what a version is made from: if it is the same, nothing needs to be built.
stamp() { cat "$source/doorpi.py" "$source/doorpi.toml" "$source"/systemd/* | cksum; }

build() {
    if [ -n "$current" ] && [ "$(stamp)" = "$(cat "$base/$current/stamp" 2>/dev/null)" ] &&
        runs "$base/$current" 2>/dev/null; then
        new=$current
        precompile "$base/$new" # Python may have been upgraded since
        say "program: this version is installed already ($base/$current)"
        return
    fi
    number=1
    while [ "$number" = "$current" ] || [ "$number" = "$old" ]; do
        number=$((number + 1))
    done
    new=$number
    say "program: building $base/$new (a minute; several on a Pi Zero)"
    { rm -rf "${base:?}/$new" && mkdir -p "$base/$new" &&
        chmod 0755 "$base" "$base/$new"; } ||
        die "cannot write into $base"
    fill "$base/$new" || {
        rm -rf "${base:?}/$new"
        die "the program could not be built, see above; the installed version is untouched"
    }
    say "program: ready to run ($("$python" -I "$base/$new" --version))"
}

fill() {
    cp -R "$source/doorpi.py" "$source/doorpi.toml" "$source/systemd" "$1" &&
        mkdir "$1/lib" && launcher >"$1/__main__.py" && libraries "$1" &&
        precompile "$1" && runs "$1" && stamp >"$1/stamp" && sync
}

# What the service and the command `doorpi` run, as python3 -I FOLDER.
launcher() {
    cat <<'PYTHON'
"""Starts the program in this folder with the libraries in this folder."""
import os
import sys

here = os.path.dirname(os.path.realpath(__file__))  # it stays the same after an upgrade
sys.path[:1] = [here, os.path.join(here, "lib")]
try:
    import doorpi  # compiled once; a script would be compiled at every start
except (ImportError, SyntaxError) as error:  # one line, because systemd retries every 5 s
    sys.exit(f"{error}: sudo sh /opt/doorpi/current/systemd/install.sh")

sys.exit(doorpi.main())
PYTHON
}

# Install the libraries that apt does not have. The door opens without segno, which draws QR
# codes, and without paho-mqtt, of which Debian 12 has only an older version.
libraries() {
    where=$1 wanted='' optional=
    needed=$(sed -n '\|^# dependencies = \[|,\|^# \]|s/^#  *"\(.*\)",*$/\1/p' "$1/doorpi.py")
    for requirement in $needed; do
        case $requirement in
        paho-mqtt*) optional="$optional $requirement" && continue ;;
        esac
        if installed "python3-${requirement%%[<>=]*}"; then continue; fi
        case $requirement in
        segno*) optional="$optional $requirement" ;;
        *) wanted="$wanted $requirement" ;;
        esac
    done
    [ -n "$wanted" ] || return 1
    # pyDes has no wheel; everything else must come as one.
    if [ -n "$wheels" ]; then
        set -- --no-index --find-links "$wheels" --only-binary :all:
    else
        set -- --use-pep517 --only-binary :all: --no-binary pyDes
    fi
    # shellcheck disable=SC2086  # a list of words
    pip_install "$@" $wanted || return 1
    for requirement in $optional; do
        pip_install "$@" "$requirement" || case $requirement in
        segno*) say "program: no segno: doorpi pass prints codes only as text (--text)" ;;
        *) say "program: no paho-mqtt: [mqtt] does not work" ;;
        esac
    done
    compiled=$(find "$where/lib" -name '*.so*')
    [ -z "$compiled" ] || {
        printf 'compiled for one version of Python only: %s\n' "$compiled" >&2
        return 1
    }
}
pip_install() {
    quietly "$python" -I -m pip --disable-pip-version-check --no-input install \
        --progress-bar off --no-compile --target "$where/lib" "$@"
}
precompile() {
    quietly "$python" -I -m compileall -q "$1/doorpi.py" &&
        { quietly "$python" -I -m compileall -q "$1/lib" || :; }
}
runs() {
    quietly "$python" -I "$1" legend && quietly "$python" -I -c \
        'import sys; sys.path.append(sys.argv[1]); import nfc.clf.transport, tomli_w' "$1/lib"
}

# quietly COMMAND...: its output is shown only if it fails.
quietly() {
    output=$("$@" 2>&1 </dev/null 9>&-) && return
    failed=$?
    printf '%s\n' "$output" >&2
    return "$failed"
}

config() {
    # Files that are created in this folder or copied into it get the service's group.
    { mkdir -p /etc/doorpi && chown root:doorpi /etc/doorpi &&
        chmod 2750 /etc/doorpi; } ||
        die "cannot create /etc/doorpi"
    if [ -e "$settings" ] || [ -L "$settings" ]; then
        say "settings: $settings is yours and was not changed"
        return
    fi
    { (umask 077 && cp "$source/doorpi.toml" "$settings.new") &&
        chown root:doorpi "$settings.new" && chmod 0640 "$settings.new" &&
        mv -f "$settings.new" "$settings"; } || die "cannot write $settings"
    say "settings: the example was copied to $settings"
}

# What the new version's check says about the settings.
checked() { STATE_DIRECTORY="$data" "$python" -I "$base/$new" check 2>&1 </dev/null 9>&-; }

# Settings, keys and certificates that the owner has put there readable for root only.
heal() {
    checked | sed -n 's/.*the service (user doorpi) cannot read \(.*\); sudo chgrp .*/\1/p' |
        while IFS= read -r file; do
            case $file in
            /etc/doorpi/*) ;;
            *) continue ;;
            esac
            if chgrp doorpi "$file" && chmod g+r "$file"; then
                say "settings: the service could not read $file; now it can, through its group"
            fi
        done
}

# point NAME VERSION: change the link NAME in one step.
point() { ln -sfn "$2" "$base/$1.new" && mv -fT "$base/$1.new" "$base/$1"; }

switch() {
    if [ "$new" != "$current" ]; then
        # A version that never became ready is not worth putting back.
        if [ -n "$current" ] && [ -e "$base/$current/was-ready" ]; then
            old=$current
            point old "$old" || die "cannot write into $base"
        fi
        if [ "$was_active" = yes ]; then state InvocationID >"$base/$new/not-yet"; fi
        point current "$new" || die "cannot write into $base"
    fi
    { printf '%s\n' '#!/bin/sh' \
        '# Runs DoorPi by hand, with the log of the service.' \
        "STATE_DIRECTORY=\${STATE_DIRECTORY:-$data}" 'export STATE_DIRECTORY' \
        "exec $python -I $base/current \"\$@\"" >"$base/$new/wrapper"; } ||
        die "cannot write into $base"
    unit "$new"
    say "service: enabled; it starts at every boot"
    tidy
}

# Install the command and the units of a version. The door's unit starts that of the clock.
unit() {
    put "$base/$1/wrapper" /usr/local/bin/doorpi 0755
    for service in doorpi doorpi-clock doorpi-online; do
        file=$base/$1/systemd/$service.service
        [ -e "$file" ] || file=$base/$1/$service.service # from an older installer
        if [ -e "$file" ]; then put "$file" "/etc/systemd/system/$service.service"; fi
    done
    if [ -e "$base/$1/systemd/doorpi-online.path" ]; then
        put "$base/$1/systemd/doorpi-online.path" /etc/systemd/system/doorpi-online.path
        online=yes
    else # a version from before there was one
        quietly systemctl disable --now doorpi-online.path doorpi-online 2>/dev/null
        rm -f /etc/systemd/system/doorpi-online.service \
            /etc/systemd/system/doorpi-online.path
        online=no
    fi
    # Those of several doors on one computer: doorpi@lab is the one of /etc/doorpi/lab.toml.
    for template in doorpi@.service doorpi-online@.service doorpi-online@.path; do
        file=$base/$1/systemd/$template
        if [ -e "$file" ]; then put "$file" "/etc/systemd/system/$template"; fi
    done
    if is_running; then quietly systemctl daemon-reload || :; fi
    quietly systemctl enable doorpi || die "systemctl enable failed, see above"
    if [ "$online" = yes ]; then
        quietly systemctl enable doorpi-online doorpi-online.path ||
            die "systemctl enable failed, see above"
    fi
}

# Remove versions that nothing points to.
tidy() {
    for folder in "$base"/[0-9]*; do
        case ${folder##*/} in
        "$new" | "$old" | "$current") ;;
        *) rm -rf "$folder" ;;
        esac
    done
}

# Not the wall clock: that of a Pi may jump by years in the minutes after a boot.
uptime_s() { cut -d. -f1 /proc/uptime; }
state() { systemctl show doorpi --property="${1:-ActiveState}" --value; }

# Start the new version, and put the old one back if it does not become ready.
try_it() {
    if [ "$new" = "$current" ] && [ "$(state)" = active ] &&
        [ "$(state NeedDaemonReload)" = no ] && [ -e "$base/$new/was-ready" ]; then
        say "the door is running: $(state StatusText)"
        next_steps
        exit 0
    fi
    trap 'say "interrupted"; put_back; exit 130' INT TERM
    say "starting the door, and waiting up to $ready_within_s s until it is ready"
    if come_up; then
        touch "$base/$new/was-ready"
        trap - INT TERM
        if [ "$new" != "$current" ] && [ -n "$current" ] && [ "$old" = "$current" ]; then
            say "the previous version is kept in $base/$old"
        fi
        say "the door is running: $(state StatusText)"
        next_steps
        exit 0
    fi
    why
    if [ "$was_active" = no ] && [ "$(state ExecMainStatus)" = 78 ]; then
        # Nothing ran before, and the program works: it has read the settings.
        say "installed, but the door does not start with the settings as they are"
        next_steps
        exit 0
    fi
    put_back
    exit 1
}

# True if the door becomes ready in time and keeps running.
come_up() {
    systemctl reset-failed doorpi 2>/dev/null || :
    systemctl --no-block try-restart doorpi-clock || :
    systemctl --no-block restart doorpi || return 1
    if [ "$online" = yes ]; then
        systemctl --no-block restart doorpi-online doorpi-online.path || :
    fi
    systemctl --no-block try-restart 'doorpi@*' 'doorpi-online@*' || :
    began=$(uptime_s)
    waited=0
    while [ "$waited" -lt "$ready_within_s" ]; do
        sleep 1
        waited=$(($(uptime_s) - began))
        # As long as a job is waiting, `active` may still mean the old process.
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
    say "it is not ready after $waited s; its last messages:"
    journalctl --unit doorpi --lines 8 --output cat --no-pager 2>/dev/null | sed 's/^/    /'
}

# Put back the last version that was ready.
put_back() {
    if [ -e "$base/$new/was-ready" ]; then
        say "this version was ready before, so it stays; systemd keeps starting it."
        say "see its messages: journalctl -u doorpi"
        return
    fi
    if [ -z "$old" ] || [ "$old" = "$new" ] || [ ! -e "$base/$old/doorpi.py" ]; then
        say "there is no earlier version to put back; systemd keeps starting this one."
        say "see its messages: journalctl -u doorpi"
        return
    fi
    point current "$old" || die "cannot write into $base"
    unit "$old"
    if come_up; then
        say "the old version was put back and is running: $(state StatusText)"
    else
        why
        say "the old version was put back, but it does not become ready either"
    fi
    say "the new one is kept in $base/$new for a look, until the next installation"
}

next_steps() {
    report=$(checked)
    code=$?
    to_do=$(printf '%s\n' "$report" | grep "still the example value")
    # A running door may have got a key from systemd that nobody else can read.
    if [ "$code" = 78 ] && ! { is_running && [ "$(state)" = active ]; }; then
        to_do=$(printf '%s\n' "$report" | sed 1d)
    fi
    if [ -n "$to_do" ]; then
        say "next: 1. sudo nano $settings"
        printf '%s\n' "$to_do" | sed 's/^ */                  /'
        say "      2. sudo doorpi check"
        say "      3. sudo systemctl restart doorpi"
        say "      4. sudo doorpi doctor"
    elif [ "$start" = no ] || ! is_running; then
        say "next: sudo systemctl restart doorpi   (until then the new version is not used)"
    elif [ "$(state)" != active ]; then
        say "next: sudo nano $settings; sudo doorpi check; sudo systemctl restart doorpi"
    else
        say "next: tap a card; then sudo doorpi log shows the tap, and systemctl status doorpi" \
            "the state of the door"
    fi
}

main "$@"
