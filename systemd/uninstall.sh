#!/bin/sh
# Removes DoorPi: sudo sh systemd/uninstall.sh [--purge]
#
# Settings (/etc/doorpi), logs and lists (/var/lib/doorpi*), drop-ins of the services, your own
# /etc/modprobe.d/doorpi.conf and the user stay, for a later installation; --purge removes
# them as well.
# Packages from apt stay: other programs may need them.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

say() { printf 'doorpi: %s\n' "$*"; }
die() {
    say "$@" >&2
    exit 1
}

usage() {
    printf 'usage: sudo sh systemd/uninstall.sh [--purge]\n' >&2
    exit 2
}

case "$#$*" in
0) purge=no ;;
1--purge) purge=yes ;;
*) usage ;;
esac
[ "$(id -u)" = 0 ] || die "needs root: sudo sh $0"

is_running() { [ -d /run/systemd/system ]; }

if [ -e /etc/systemd/system/doorpi.service ]; then
    if is_running; then
        systemctl --quiet stop doorpi-online.path doorpi-online 2>/dev/null || :
        systemctl --quiet stop 'doorpi@*' 'doorpi-online@*' || :
        systemctl --quiet stop doorpi || die "the service could not be stopped"
        systemctl --quiet stop doorpi-clock 2>/dev/null || :
    fi
    systemctl --quiet disable doorpi doorpi-online.path doorpi-online 2>/dev/null || :
    for link in /etc/systemd/system/*.wants/doorpi@* /etc/systemd/system/*.wants/doorpi-online@*; do
        if [ -L "$link" ]; then rm -f "$link"; fi
    done
    rm -f /etc/systemd/system/doorpi.service /etc/systemd/system/doorpi-clock.service \
        /etc/systemd/system/doorpi-online.service /etc/systemd/system/doorpi-online.path \
        /etc/systemd/system/doorpi@.service /etc/systemd/system/doorpi-online@.service \
        /etc/systemd/system/doorpi-online@.path
    rm -rf /run/doorpi /run/doorpi-*
    if is_running; then
        systemctl daemon-reload
        systemctl reset-failed doorpi doorpi-clock doorpi-online 2>/dev/null || :
    fi
    say "services: stopped and removed"
else
    say "services: were not installed"
fi

rm -rf /opt/doorpi /usr/local/bin/doorpi || die "the program could not be removed"
say "program: removed"

rm -f /etc/udev/rules.d/60-doorpi.rules /etc/modprobe.d/doorpi-readers.conf \
    /etc/sysusers.d/doorpi.conf || die "the rules could not be removed"
if [ -S /run/udev/control ]; then udevadm control --reload || :; fi
say "rules: removed"

if [ "$purge" = no ]; then
    say "kept: /etc/doorpi (settings), /var/lib/doorpi* (log and list), the user doorpi"
    say "to remove these as well: sudo sh $0 --purge"
    exit 0
fi

elsewhere=$(sed -n "s/^ *state_dir *= *[\"']\([^\"']*\)[\"'].*/\1/p" \
    /etc/doorpi/doorpi.toml 2>/dev/null)
rm -rf /etc/doorpi /var/lib/doorpi /var/lib/doorpi-* /etc/systemd/system/doorpi.service.d \
    /etc/systemd/system/doorpi-clock.service.d \
    /etc/systemd/system/doorpi-online.service.d /etc/systemd/system/doorpi@*.service.d \
    /etc/systemd/system/doorpi-online@*.service.d /etc/modprobe.d/doorpi.conf ||
    die "settings and data could not be removed"
if is_running; then systemctl daemon-reload; fi
say "settings, log and list: removed"
if getent passwd doorpi >/dev/null; then
    userdel doorpi || die "the user doorpi could not be removed"
fi
if getent group doorpi >/dev/null; then groupdel doorpi || :; fi
say "user doorpi: removed"
case $elsewhere in
'' | /var/lib/doorpi) ;;
*) say "kept: $elsewhere, the state_dir of your settings; remove it yourself" ;;
esac
say "done; only the packages from apt are left (apt list --installed)"
