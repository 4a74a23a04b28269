#!/bin/sh
# The appliance for real: systemd/install.sh and the unit on a booted Debian, in a container.
# By hand, as root; a few minutes:
#
#   sudo sh tests/tools/appliance.sh [--suite trixie] [--root DIR] [--upgrade-to trixie]
#
#   --suite NAME  which Debian: bookworm (the default) or newer
#   --root DIR    a root made by debootstrap before (as below); it is not changed.
#                 Without it one is made in a temporary folder, and removed at the end
#   --upgrade-to NAME  at the end, take Python and what the door needs from this Debian
#
# Needs debootstrap, systemd-nspawn, nsenter and script, and the network (Debian's packages,
# PyPI). Exit codes: 0 all well, 1 not, 77 skipped with a reason.
#
# SC2015: `passed` never fails. SC2016: much is quoted for the shell in the container.
# shellcheck disable=SC2015,SC2016
set -u

suite=bookworm
root=
upgrade=
while [ $# -gt 0 ]; do
    case $1 in
    --suite) suite=$2 && shift ;;
    --root) root=$2 && shift ;;
    --upgrade-to) upgrade=$2 && shift ;;
    *) sed -n '2,16s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
    shift
done
source=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P) || exit 1

skip() {
    printf 'skipped: %s\n' "$*"
    exit 77
}
[ "$(id -u)" = 0 ] || skip "needs root"
for tool in systemd-nspawn nsenter script; do
    command -v "$tool" >/dev/null || skip "$tool is missing"
done

work=$(mktemp -d) || exit 1
nspawn=
end() {
    if [ -n "$nspawn" ]; then
        kill -s RTMIN+4 "$leader" 2>/dev/null # to init: power off
        wait "$nspawn" 2>/dev/null
    fi
    rm -rf "$work"
}
trap end EXIT
trap 'exit 1' INT TERM

now() { date +%s.%N; }
since() { printf '%s %s\n' "$1" "$(now)" | awk '{ printf "%.1f s", $2 - $1 }'; }
failures=0
passed() { printf 'ok      %s\n' "$*"; }
failed() {
    printf 'FAILED  %s\n' "$*"
    failures=$((failures + 1))
}
# check CLAIM COMMAND...: in the container; what it prints is shown when it fails.
check() {
    claim=$1
    shift
    if said=$(inside "$@" 2>&1); then passed "$claim"; else
        failed "$claim"
        printf '%s\n' "$said" | sed 's/^/        /'
    fi
}
# says CLAIM WORDS COMMAND...: what the command prints has these words.
says() {
    claim=$1 words=$2
    shift 2
    said=$(inside "$@" 2>&1)
    case $said in
    *"$words"*) passed "$claim" ;;
    *)
        failed "$claim: not said: $words"
        printf '%s\n' "$said" | sed 's/^/        /'
        ;;
    esac
}
# until_true WITHIN-S SHELL-COMMAND: waits for it to be true in the container.
until_true() {
    inside sh -c "ends=\$((\$(date +%s) + $1)); until $2; do
        [ \$(date +%s) -lt \$ends ] || exit 1; sleep 0.05; done"
}
step() { printf '\n-- %s\n' "$*"; }

################################################################################
# A Debian that has booted
################################################################################

if [ -z "$root" ]; then
    command -v debootstrap >/dev/null || skip "debootstrap is missing"
    root=$work/root
    began=$(now)
    debootstrap --variant=minbase \
        --include=systemd,systemd-sysv,dbus,udev,python3,ca-certificates,procps \
        "$suite" "$root" >"$work/debootstrap.log" 2>&1 || {
        tail -5 "$work/debootstrap.log"
        skip "debootstrap failed"
    }
    passed "debootstrap of $suite: $(since "$began")"
fi

began=$(now)
script -qfc "exec systemd-nspawn --directory='$root' --boot --machine=doorpi-$$ \
    --register=no --keep-unit --volatile=overlay \
    --system-call-filter='adjtimex clock_adjtime'" "$work/console" >/dev/null 2>&1 </dev/null &
nspawn=$!
leader=
inside() {
    nsenter -t "$leader" -m -u -i -n -p -C -- env -i HOME=/root LC_ALL=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
find_leader() {
    for parent in $(pgrep -P "$nspawn"); do
        leader=$(pgrep -P "$parent" -x systemd) && return
        leader=$(pgrep -P "$parent" -x init) && return
    done
    return 1
}
tries=0
until find_leader && inside test -S /run/dbus/system_bus_socket 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || {
        tail -5 "$work/console"
        skip "the container does not boot"
    }
    sleep 0.1
done
until_true 30 'systemctl is-system-running | grep -Eq "running|degraded"' || skip "no boot"
passed "booted in $(since "$began"): $(inside systemctl --version | head -1)"
# The container has a boot's id of its own, laid over the kernel's; the service, whose /proc
# is another, sees the kernel's. On a computer there is only that one.
inside umount /proc/sys/kernel/random/boot_id

# What this machine needs to reach PyPI, the container needs, too.
give() { if [ -r "$1" ]; then inside sh -c "mkdir -p '${1%/*}'; cat >'$1'" <"$1"; fi; }
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /root/.config/pip/pip.conf \
    /etc/ssl/certs/ca-certificates.crt; do
    give "$file"
done
tar -c -C "$source" doorpi.py doorpi.toml systemd tests | inside sh -c 'mkdir /src; tar -xC /src'

install() { inside sh "$@"; }
property() { inside systemctl show doorpi --property="$1" --value; }
journal() { inside journalctl --unit doorpi --output cat --no-pager "$@"; }
toml=/etc/doorpi/doorpi.toml

################################################################################
step "apt that fails, or is locked"
################################################################################

# fails CLAIM APTS-WORDS OUR-WORDS: apt-get says so, and fails.
fails() {
    inside sh -c 'cat >/usr/local/sbin/apt-get; chmod +x /usr/local/sbin/apt-get' <<SH
#!/bin/sh
echo "E: $2"
exit 100
SH
    said=$(install /src/systemd/install.sh 2>&1)
    code=$?
    inside rm /usr/local/sbin/apt-get
    case $code:$(printf '%s\n' "$said" | tail -1) in
    1:*"see above$3"*) passed "$1" ;;
    *) failed "$1: exit code $code: $said" ;;
    esac
    inside test -e /opt/doorpi && failed "something was installed"
}
fails "the network" "Temporary failure resolving 'deb.debian.org'" "; is there a network?"
fails "the clock" "Release file is not valid yet (invalid for another 3d)" "; is the clock"
fails "something else is not guessed at" "dpkg was interrupted, run 'dpkg --configure -a'" ""
[ "${said%see above}" != "$said" ] && passed "not at all" || failed "guessed: $said"

inside sh -c 'mkdir -p /own/DEBIAN; cat >/own/DEBIAN/control; dpkg-deb --build /own' <<'DEB' >/dev/null
Package: owners-own
Version: 1
Architecture: all
Maintainer: nobody <nobody@invalid>
Conflicts: python3-gpiozero
Description: cannot live beside what the door needs
DEB
inside dpkg -i /own.deb >/dev/null
install /src/systemd/install.sh >"$work/own" 2>&1 && failed "no room, and exit code 0" ||
    passed "no package of the owner's is removed: $(grep "^E: .*remove" "$work/own")"
check "it is there" dpkg -s owners-own
inside dpkg --purge owners-own >/dev/null

inside sh -c 'cat >/root/hold.py' <<'PYTHON'
import fcntl, time
held = [open(path, "w") for path in ("/var/lib/apt/lists/lock", "/var/lib/dpkg/lock-frontend")]
for file in held:
    fcntl.lockf(file, fcntl.LOCK_EX)
open("/run/held", "w").close()
time.sleep(8)
PYTHON
inside systemd-run --quiet --unit=hold /usr/bin/python3 /root/hold.py
until_true 5 '[ -e /run/held ]' || failed "the locks are not held"

################################################################################
step "a fresh installation"
################################################################################

began=$(now)
install /src/systemd/install.sh >"$work/fresh" 2>&1
code=$?
cat "$work/fresh"
grep -q "another program has apt locked" "$work/fresh" && passed "it waited for apt's lock" ||
    failed "it did not wait for apt's lock"
came=$(sed -n 's/^doorpi: packages: installed \(.*\); .*/\1/p' "$work/fresh")
for package in $came; do
    check "$package was said to be installed, and is" dpkg -s "$package"
done
if ! inside dpkg -s python3-lgpio >/dev/null 2>&1; then
    grep -q "no python3-lgpio: the lights stay dark" "$work/fresh" &&
        passed "no python3-lgpio, and it says what that means" || failed "no word of python3-lgpio"
fi
[ "$code" = 0 ] && passed "exit code 0 in $(since "$began")" || failed "exit code $code"
check "the program works as a command" doorpi legend
check "the settings are root's, and the door may read them" \
    sh -c "[ \"\$(stat -c %A:%U:%G $toml)\" = -rw-r-----:root:doorpi ]"
check "the data are the door's own" \
    sh -c '[ "$(stat -c %a:%U:%G /var/lib/doorpi)" = 700:doorpi:doorpi ]'
check "the module is compiled" sh -c 'ls /opt/doorpi/current/__pycache__/doorpi.*.pyc'
check "the units are enabled" systemctl is-enabled doorpi doorpi-online doorpi-online.path
check "doorpi-online is not started, for nothing is configured" sh -c \
    '[ "$(systemctl show doorpi-online -P ActiveState)" = inactive ]'
check "what apt has was not installed by pip a second time" sh -c \
    '! ls -d /opt/doorpi/current/lib/requests /opt/doorpi/current/lib/cryptography'
check "nothing is tied to one version of Python" sh -c \
    '! find /opt/doorpi -name "*.so*" -o -name "python3*" | grep .'

################################################################################
step "a door with a virtual reader, lights in memory and a lock behind TLS on loopback"
################################################################################

inside sh -c 'cat >/root/cloud.py' <<'PYTHON'
import ssl, sys, threading
sys.path[:0] = ["/src"]
from tests.fakes.live_cloud import LiveSesameMini
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/root/cert.pem", "/root/key.pem")
cloud = LiveSesameMini(latency_s=0.05, motor_s=0.2, tls=tls)
with open("/run/cloud.new", "w") as file:
    file.write(f"{cloud.base_url} {cloud.device_id} {cloud.key}")
import os
os.rename("/run/cloud.new", "/run/cloud")
threading.Event().wait()
PYTHON
inside sh -c 'cd /root && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem \
    -out cert.pem -subj /CN=lock -addext subjectAltName=IP:127.0.0.1' 2>/dev/null
inside systemd-run --quiet --unit=lock-cloud \
    /usr/bin/python3 -B /root/cloud.py
until_true 10 '[ -e /run/cloud ]' || failed "the lock's cloud does not start"
inside sh -s "$((54000 + $$ % 1000))" <<'SH' # the network is this machine's own
port=$1
read -r url device key </run/cloud
cp /root/cert.pem /etc/doorpi/lock.pem
chmod 644 /etc/doorpi/lock.pem
mkdir -p -m 700 /etc/doorpi/secrets
printf '%s\n' "$key" >/etc/doorpi/secrets/lock.key
chmod 600 /etc/doorpi/secrets/lock.key
cat >/etc/doorpi/doorpi.toml <<TOML
# my own words
[door]
name = "Container"
[reader]
device = "udp:127.0.0.1:$port"
virtual = true
[lock]
kind = "sesame-mini"
device_id = "$device"
api_key = { file = "lock.key" }
base_url = "$url"
ca_file = "/etc/doorpi/lock.pem"
[[card]]
uid = "04A93C715ED284"
holder = "Ken Sato"
[[card]]
uid = "04C3D4E5F60718"
holder = "Mika Abe"
valid_until = 2099-12-31
TOML
mkdir -p /etc/systemd/system/doorpi.service.d
cat >/etc/systemd/system/doorpi.service.d/override.conf <<DROPIN
[Service]
Environment=GPIOZERO_PIN_FACTORY=mock
LoadCredential=lock.key:/etc/doorpi/secrets/lock.key
DROPIN
systemctl daemon-reload
SH
before=$(inside sha256sum "$toml")
began=$(now)
check "it starts" systemctl restart doorpi
passed "start to ready: $(since "$began")"
# The drop-in is needed by verbs that use the lock; tap needs only the reader.
inside sh -c "sed 's/{ file = \"lock.key\" }/\"x\"/' $toml >/run/tap.toml"
tap() { inside doorpi --config /run/tap.toml tap "$1" >/dev/null; }
result() { inside doorpi --config /run/tap.toml log --json | tail -1; }
tap_ends() { # WORD [CARD]: the result, or why there is none
    ended='"result": "\|"decision": "denied"'
    count=$(inside doorpi --config /run/tap.toml log --json | grep -c "$ended")
    tap "${2:-04A93C715ED284}"
    until_true 15 "[ \$(doorpi --config /run/tap.toml log --json |
        grep -c '$ended') -gt $count ]" || failed "no result within 15 s"
    sleep 1 # the card counts again when it was away for half a second
    case $(result) in
    *"\"$1\""*) passed "a tap: $1" ;;
    *)
        failed "a tap: not $1: $(result)"
        journal --lines 5
        ;;
    esac
}
sleep 1
tap_ends unlocked
tap_ends locked

# The kernel's clock is this machine's own. Where it is not set, its answer is made up, in
# the unit as it is but for that.
marker=/run/doorpi-clock/set
until_true 10 '[ $(systemctl show doorpi-clock -P ExecMainPID) != 0 ]' ||
    failed "doorpi-clock was not started with the door"
if python3 -c 'import ctypes, sys
sys.exit(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256)) == 5)'; then
    until_true 30 "[ -e $marker ]" && passed "the clock is set, and doorpi-clock says so" ||
        failed "the clock is set, but there is no $marker"
    printf 'skipped: a clock that is not set: this machine has one that is\n'
else
    check "the clock is not set: doorpi-clock waits" systemctl is-active doorpi-clock
    check "and has not said that it is" [ ! -e "$marker" ]
    tap_ends clock-not-set 04C3D4E5F60718
    inside sh <<'SH'
mkdir -p /run/systemd/system/doorpi-clock.service.d
cat >/run/systemd/system/doorpi-clock.service.d/answer.conf <<'DROPIN'
[Service]
ExecStart=
ExecStart=/usr/bin/python3 -I -c "import sys; sys.path.insert(0, '/opt/doorpi/current'); \
    import ctypes, doorpi; ask = ctypes.CDLL(None).adjtimex; \
    print('adjtimex', ask(ctypes.create_string_buffer(256)), flush=True); \
    doorpi.kernel_says_synchronised = lambda: True; \
    doorpi.watch_clock(str(doorpi.CLOCK_MARKER))"
DROPIN
systemctl daemon-reload
systemctl restart doorpi-clock
SH
    until_true 30 "[ -e $marker ]" && passed "doorpi-clock says it (the answer made up)" ||
        failed "no $marker"
    says "the kernel does answer it" "adjtimex 5" journalctl -u doorpi-clock -o cat --no-pager
    inside rm -r /run/systemd/system/doorpi-clock.service.d
    inside systemctl daemon-reload
fi
check "and goes on, should the clock be moved" systemctl is-active doorpi-clock
says "anyone may look, nobody else may write" "drwxr-xr-x:doorpi" stat -c %A:%U "${marker%/*}"
tap_ends unlocked 04C3D4E5F60718
tap_ends locked

tap_ends not-found 04D4E5F6071829
says "the last unknown card is let in" "Jo Guest may enter" doorpi allow "Jo Guest"
tap_ends unlocked 04D4E5F6071829
says "and no longer" "is blocked, and removed" doorpi revoke "Jo Guest"
tap_ends not-enabled 04D4E5F6071829
says "everybody is refused" "locked down" doorpi lockdown on
tap_ends locked-down
says "and let in again" "not locked down" doorpi lockdown off
tap_ends locked
check "verbs of root leave nothing that the door cannot use" \
    sh -c '[ -z "$(find /var/lib/doorpi ! -user doorpi)" ]'
says "the credential came through systemd, not from the file" "Permission denied" \
    setpriv --reuid doorpi --regid doorpi --init-groups cat /etc/doorpi/secrets/lock.key

################################################################################
step "inside the sandbox"
################################################################################

inside sh -c 'cat >/root/probe.py' <<'PYTHON'
"""Each line: what a door needs, or must not have, tried under the unit's own sandbox."""
import ctypes, errno, os, socket, sqlite3, sys, time

bad = 0
def tell(claim, well, more=""):
    global bad
    bad += not well
    print(f"{'ok    ' if well else 'FAILED'}  {claim} {more}".rstrip(), flush=True)

def tried(action):
    try:
        return action(), ""
    except Exception as error:
        return None, f"({type(error).__name__}: {error})"

def allowed(claim, action):
    answer, why = tried(action)
    tell(claim, not why, why)
    return answer

def denied(claim, action):
    answer, why = tried(action)
    tell(claim, bool(why), "" if why else "(it worked)")

libc = ctypes.CDLL(None, use_errno=True)
state, why = libc.adjtimex(ctypes.create_string_buffer(256)), ctypes.get_errno()
tell("adjtimex is refused, and that is all", (state, why) == (-1, errno.EPERM), f"({state})")
sys.path.insert(0, "/opt/doorpi/current")
import doorpi
tell("the program can tell from the other service's word that the clock is set",
     (doorpi.kernel_says_synchronised(), doorpi.SystemClock().is_set()) == (False, True))
denied("and cannot give it itself", lambda: open(doorpi.CLOCK_MARKER, "w"))
usb = ctypes.CDLL("libusb-1.0.so.0")
context = ctypes.c_void_p()
code = usb.libusb_init(ctypes.byref(context))
tell("libusb starts, with its ear for new devices", code == 0, f"(code {code})")
tell("ctypes calls back (libusb1 needs it)",
     ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7)() == 7)
allowed("a pseudo terminal is opened", os.openpty)
serial = os.environ["SERIAL"]
allowed("a node of the group dialout is opened", lambda: os.open(serial, os.O_RDWR))
allowed("a node of the group plugdev is opened",
        lambda: os.open(os.environ["USB"], os.O_RDWR))
denied("a node of root alone is not", lambda: os.open(os.environ["ROOTS"], os.O_RDWR))
tell("a name is looked up like outside",
     str(tried(lambda: socket.getaddrinfo("deb.debian.org", 443))[0] is not None)
     == os.environ["DNS"], f"(outside: {os.environ['DNS']})")
allowed("localhost is looked up", lambda: socket.getaddrinfo("localhost", 443))
allowed("a UDP socket is opened", lambda: socket.socket(type=socket.SOCK_DGRAM).bind(("127.0.0.1", 0)))
denied("a raw packet socket is not", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
allowed("the Pi's model can be read", lambda: open("/proc/cpuinfo").read())
allowed("the boot's id can be read", lambda: open("/proc/sys/kernel/random/boot_id").read())
allowed("lgpio has a place for its pipes",
        lambda: os.mkfifo(os.path.join(os.environ["LG_WD"], ".lgd-nfy0")))
def database():
    db = sqlite3.connect("/var/lib/doorpi/probe.db")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (x)")
    db.close()
    os.unlink("/var/lib/doorpi/probe.db")
allowed("a database is written", database)
for path in ("/etc/doorpi/x", "/opt/doorpi/x", "/usr/x", "/home/x", "/root/x"):
    denied(f"{path} is not written", lambda path=path: open(path, "w"))
denied("the clock is not set", lambda: time.clock_settime(0, time.time()))
denied("nothing is mounted", lambda: libc.mount(b"a", b"/mnt", b"tmpfs", 0, None) and 1 / 0)
allowed("cryptography encrypts", lambda: __import__(
    "cryptography.hazmat.primitives.ciphers.algorithms", fromlist=["AES"]).AES(bytes(16)))
allowed("TLS has its certificates",
        lambda: 1 / len(__import__("ssl").create_default_context().get_ca_certs()))
with open("/proc/self/status") as file:
    status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
tell("no capability is left", int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0)
tell("system calls are filtered", status["Seccomp"] == "2")
sys.exit(bad > 0)
PYTHON
# The unit itself, but for what it starts. Two nodes like a reader's (clones of /dev/null:
# this kernel has no readers) and one of root's.
if inside getent ahosts deb.debian.org >/dev/null; then dns=True; else dns=False; fi
inside sh <<SH
for node in serial:root:dialout:660 usb:root:plugdev:660 roots:root:root:600; do
    IFS=: read -r name user group mode <<NODE
\$node
NODE
    mknod /dev/probe-\$name c 1 3
    chown \$user:\$group /dev/probe-\$name
    chmod \$mode /dev/probe-\$name
done
cp /root/probe.py /opt/doorpi/probe.py
sed -e 's|^ExecStart=.*|ExecStart=/usr/bin/python3 -I /opt/doorpi/probe.py|' \
    -e 's/^Type=.*/Type=oneshot/' -e 's/^Restart=.*/Restart=no/' -e '/^WatchdogSec/d' \
    -e '/^RuntimeDirectory=/s/doorpi/doorpi-probe/' -e 's|/run/doorpi|&-probe|' \
    -e '/^LimitCORE/a StandardOutput=file:/run/probe.log' \
    -e '/^LimitCORE/a Environment=SERIAL=/dev/probe-serial USB=/dev/probe-usb ROOTS=/dev/probe-roots DNS=$dns' \
    /etc/systemd/system/doorpi.service >/run/systemd/system/doorpi-probe.service
systemctl daemon-reload
systemctl start doorpi-probe
code=\$?
rm -f /opt/doorpi/probe.py
exit \$code
SH
code=$?
inside cat /run/probe.log
if [ "$code" = 0 ]; then passed "all of it"; else
    failed "something of it"
    inside journalctl --unit doorpi-probe --no-pager --lines 8 --output cat
fi
for service in doorpi doorpi-clock; do
    inside systemd-analyze security "$service" --no-pager | tail -1
    check "systemd-analyze verify $service" sh -c \
        "[ -z \"\$(systemd-analyze verify /etc/systemd/system/$service.service 2>&1)\" ]"
done

################################################################################
step "killed, hung, reloaded, misconfigured, stopped"
################################################################################

pid=$(property MainPID)
began=$(now)
inside kill -KILL "$pid"
until_true 30 "[ \$(systemctl show doorpi -P MainPID) != $pid ] &&
    [ \$(systemctl show doorpi -P MainPID) != 0 ] && systemctl -q is-active doorpi" &&
    passed "kill -9: ready again after $(since "$began")" || failed "kill -9: not back"
sleep 1
tap_ends unlocked

pid=$(property MainPID)
began=$(now)
inside kill -STOP "$pid"
until_true 130 "[ \$(systemctl show doorpi -P MainPID) != $pid ] &&
    [ \$(systemctl show doorpi -P MainPID) != 0 ] && systemctl -q is-active doorpi" &&
    passed "SIGSTOP: the watchdog brought it back after $(since "$began")" ||
    failed "SIGSTOP: not back"
says "and the journal says why" "Watchdog timeout" journalctl --unit doorpi --no-pager
sleep 1
tap_ends locked

pid=$(property MainPID)
inside sed -i 's/"Container"/"New Name"/' "$toml"
inside sh -c 'echo blacklist cdc_acm >/etc/modprobe.d/doorpi.conf' # as doctor says
check "systemctl reload" systemctl reload doorpi
until_true 10 'journalctl -u doorpi --no-pager -o cat | grep -q "^settings reloaded"' &&
    passed "the new settings are used" || failed "reload: not in the journal"
until_true 10 '[ $(systemctl show doorpi -P ActiveState) = active ]'
[ "$(property MainPID)" = "$pid" ] && passed "by the same process" || failed "another process"
inside sed -i 's/"New Name"/"Container"/' "$toml"
until_true 5 'journalctl -u doorpi --no-pager -o cat |
    grep -q "^changed: door.name: .New Name. -> .Container."' &&
    passed "an edit is used without a word from anybody" || failed "edit: not in the journal"

# A mistake, and a power cut: the last good settings hold, until there are none.
inside sed -i 's/^kind =/kinb =/' "$toml"
inside systemctl restart doorpi
# Just after the start it is "reloading": it reads them again, and reports their problems.
until_true 10 '[ "$(systemctl show doorpi -P ActiveState)" = active ]' &&
    passed "settings that are not valid: a start goes on with the last good ones" ||
    failed "settings that are not valid: $(property ActiveState)"
sleep 1
tap_ends unlocked
inside sh -c 'systemctl stop doorpi; rm /var/lib/doorpi/last-good.json'
inside systemctl start doorpi 2>/dev/null
until_true 10 '[ $(systemctl show doorpi -P ActiveState) = failed ]' &&
    [ "$(property ExecMainStatus)" = 78 ] &&
    passed "and without those: exit 78, and no restart" ||
    failed "settings that are not valid: $(property ActiveState) $(property ExecMainStatus)"
inside sed -i 's/^kinb =/kind =/' "$toml"
inside systemctl restart doorpi

# The README's way to edit, and the way that leaves a file of root's alone.
inside sh -c "cd /etc/doorpi; cp doorpi.toml new.toml; mv new.toml doorpi.toml"
door_reads() { # CLAIM FILE
    check "$1" setpriv --reuid doorpi --regid doorpi --init-groups test -r "$2"
}
door_reads "a copy that was moved into place can be read by the service" "$toml"
inside chown root:root "$toml" /etc/doorpi/lock.pem
inside chmod 600 /etc/doorpi/lock.pem
for file in "$toml" /etc/doorpi/lock.pem; do
    says "check says what the service cannot read, and what mends it" \
        "cannot read $file; sudo chgrp doorpi $file; sudo chmod g+r $file" doorpi check
done
install /src/systemd/install.sh >"$work/heal"
grep "could not read" "$work/heal"
door_reads "the installer mends it" "$toml"
door_reads "and the certificate" /etc/doorpi/lock.pem
inside chmod 644 /etc/doorpi/lock.pem
inside systemctl restart doorpi
sleep 1
tap_ends locked
began=$(now)
inside systemctl stop doorpi
passed "systemctl stop: $(since "$began"), $(property Result)"
inside systemctl start doorpi

################################################################################
step "online: a chat and notices, beside the door"
################################################################################

inside sh -c 'cat >/root/bot.py' <<'PYTHON'
import os, pathlib, sys, time, types
sys.path[:0] = ["/src"]
sys.modules["trustme"] = types.ModuleType("trustme")  # only for TLS
from tests.fakes.telegram import TOKEN, FakeTelegram
bot = FakeTelegram()
pathlib.Path("/run/bot.new").write_text(f"{bot.url} {TOKEN}")
os.rename("/run/bot.new", "/run/bot")
while True:
    said = pathlib.Path("/run/say")
    if said.exists():
        bot.say(4711, said.read_text().strip())
        said.unlink()
    pathlib.Path("/run/sent").write_text("\n".join(bot.texts(4711)))
    time.sleep(0.1)
PYTHON
inside systemd-run --quiet --unit=bot /usr/bin/python3 -B /root/bot.py
until_true 10 '[ -e /run/bot ]' || failed "the bot does not start"
online() { inside systemctl show doorpi-online --property="$1" --value; }
began=$(now)
inside sh -s <<'SH'
read -r url token </run/bot
cat >>/etc/doorpi/doorpi.toml <<TOML
[telegram]
token = "$token"
base_url = "$url"
notify = { 4711 = ["changed", "fault"] }
[[telegram.user]]
id = 4711
holder = "Ken Sato"
TOML
SH
until_true 60 'systemctl -q is-active doorpi-online' &&
    passed "tables are added: it starts by itself, in $(since "$began")" ||
    failed "not started: $(online ActiveState), $(online ConditionResult)"
until_true 15 'systemctl show doorpi-online -P StatusText | grep -q "telegram: ok.*4711: ok"' &&
    passed "its status: $(online StatusText)" || failed "its status: $(online StatusText)"
until_true 10 'journalctl -u doorpi --no-pager -o cat | grep -q "^changed: telegram: added"' ||
    failed "the door does not know the new user"
chat() { # TEXT WORDS: what a person writes, and what the answer has
    inside sh -c "echo '$1' >/run/say.new; mv /run/say.new /run/say"
    until_true 30 "grep -q '$2' /run/sent" && passed "$1: $2" || {
        failed "$1: no $2: $(inside tail -2 /run/sent)"
        inside journalctl -u doorpi-online -n 5 -o cat --no-pager
    }
}
chat /open "unlocked"
chat /lock ": locked"
inside doorpi lockdown on >/dev/null
inside doorpi lockdown off >/dev/null
until_true 80 "grep -q lockdown-on /run/sent" && passed "a notice arrives" ||
    failed "no notice: $(inside cat /run/sent)"
passed "its memory: $(($(inside cat "/proc/$(online MainPID)/status" |
    sed -n 's/VmRSS:[^0-9]*\([0-9]*\) kB/\1/p') / 1024)) MB"
pid=$(online MainPID)
inside systemctl stop doorpi
inside systemctl start doorpi
sleep 1
tap_ends unlocked
chat /lock "Container: locked"
[ "$(online MainPID)" = "$pid" ] && passed "it went on while the door was restarted" ||
    failed "another process"
began=$(now)
inside systemctl stop doorpi-online
passed "systemctl stop: $(since "$began"), $(online Result)"
inside systemctl start doorpi-online
before=$(inside sha256sum "$toml")

################################################################################
step "a second door on the same computer"
################################################################################

inside sh -s "$((53000 + $$ % 1000))" <<'SH'
port=$1
read -r _ _ key </run/cloud
lab=/etc/doorpi/lab.toml
sed -e '/^\[telegram\]/,$d' -e 's/"Container"/"Lab"/' -e "s/udp:127.0.0.1:[0-9]*/udp:127.0.0.1:$port/" \
    -e "s/{ file = \"lock.key\" }/\"$key\"/" /etc/doorpi/doorpi.toml >$lab
chgrp doorpi $lab
chmod 640 $lab
mkdir -p /etc/systemd/system/doorpi@.service.d
printf '[Service]\nEnvironment=GPIOZERO_PIN_FACTORY=mock\n' \
    >/etc/systemd/system/doorpi@.service.d/override.conf
systemctl daemon-reload
SH
lab=/etc/doorpi/lab.toml
lab_ends() { # WORD
    count=$(inside doorpi --config "$lab" log --json | grep -c '"result": "')
    inside doorpi --config "$lab" tap 04A93C715ED284 >/dev/null
    until_true 15 "doorpi --config $lab log --json | grep '\"result\": \"' | tail -n +$((count + 1)) |
        grep -q '\"$1\"'" && passed "a tap at the second door: $1" || {
        failed "a tap at the second door: not $1: $(inside doorpi --config "$lab" log --json | tail -1)"
        inside journalctl -u doorpi@lab -n 5 -o cat --no-pager
    }
    sleep 1
}
check "its settings are valid" doorpi --config "$lab" check
check "it starts beside the first" systemctl enable --quiet --now doorpi@lab doorpi-online@lab.path
check "nothing is configured for its online" sh -c \
    '[ "$(systemctl show doorpi-online@lab -P ActiveState)" = inactive ]'
sleep 1
lab_ends unlocked
tap_ends locked
check "each has its own log" sh -c '[ -e /var/lib/doorpi-lab/doorpi.db ] &&
    [ "$(stat -c %a:%U:%G /var/lib/doorpi-lab)" = 700:doorpi:doorpi ]'
says "it is told how to work on its own door" "doorpi --config $lab lockdown off" \
    doorpi --config "$lab" lockdown on
check "and not on the other" doorpi --config "$lab" lockdown off
inside sh -c 'printf "[[notify]]\nname = \"hook\"\nurl = \"https://127.0.0.1:9/x\"\n\
events = [\"fault\"]\n" >>/etc/doorpi/lab.toml'
until_true 60 'systemctl -q is-active doorpi-online@lab' &&
    passed "a table is added: its online starts by itself" ||
    failed "doorpi-online@lab is $(inside systemctl show doorpi-online@lab -P ActiveState)"
[ "$(online ActiveState)" = active ] && passed "the first door's online goes on" ||
    failed "the first door's online: $(online ActiveState)"
inside systemctl kill --signal KILL doorpi@lab
until_true 30 '[ "$(systemctl show doorpi@lab -P NRestarts)" = 1 ] && systemctl -q is-active doorpi@lab' &&
    passed "killed: systemd starts it again" || failed "killed: it is not back"
sleep 1
lab_ends unlocked
tap_ends locked
lab_pid() { inside systemctl show doorpi@lab -P MainPID; }
lab_was=$(lab_pid)

################################################################################
step "upgrades"
################################################################################

pid=$(property MainPID)
began=$(now)
install /src/systemd/install.sh >"$work/again" 2>&1 || failed "the same again: exit code $?"
cat "$work/again"
[ "$(property MainPID)" = "$pid" ] &&
    passed "the same again: $(since "$began"), the door went on undisturbed" ||
    failed "the same again: the door was restarted"
[ "$(inside sha256sum "$toml")" = "$before" ] && passed "the settings are untouched" ||
    failed "the settings were changed"
[ "$(lab_pid)" = "$lab_was" ] && passed "and so did the second door" ||
    failed "the second door was restarted"

version() { # NAME SED-EXPRESSION: a checkout at /NAME that differs by it
    inside sh -c "rm -rf /$1; cp -r /src /$1; sed -i '$2' /$1/doorpi.py;
        ! cmp -s /src/doorpi.py /$1/doorpi.py" || failed "/$1 is no other version"
}
runs_version() {
    inside grep -q "^__version__ = \"$1\"" /opt/doorpi/current/doorpi.py &&
        inside systemctl -q is-active doorpi && passed "version $1 is running" ||
        failed "version $1 is not running"
}

online_pid=$(online MainPID)
version next 's/^__version__ = .*/__version__ = "0.2.0"/'
install /next/systemd/install.sh && passed "an upgrade" || failed "an upgrade: exit code $?"
runs_version 0.2.0
until_true 30 "[ \$(systemctl show doorpi-online -P MainPID) != $online_pid ] &&
    systemctl -q is-active doorpi-online" && passed "and doorpi-online with it" ||
    failed "doorpi-online: $(online ActiveState)"
until_true 30 "[ \$(systemctl show doorpi@lab -P MainPID) != $lab_was ] &&
    systemctl -q is-active doorpi@lab" && passed "and the second door" ||
    failed "the second door was not restarted"
sleep 1
tap_ends unlocked

version mute '/^__version__ = /s/=.*/= "0.3.0"/; s/message = f"{state.upper()}=1"/message = "MUTE=1"/'
began=$(now)
install /mute/systemd/install.sh
code=$?
[ "$code" = 1 ] && passed "a version that is never ready: exit code 1 after $(since "$began")" ||
    failed "a version that is never ready: exit code $code"
runs_version 0.2.0
sleep 1
tap_ends locked

version picky '/^__version__ = /s/=.*/= "0.4.0"/; s/^EX_OK, .*EX_CONFIG = .*/&\nif "run" in sys.argv: sys.exit(78)/'
began=$(now)
install /picky/systemd/install.sh
code=$?
[ "$code" = 1 ] && passed "a version that refuses the settings: exit code 1 after $(since "$began")" ||
    failed "a version that refuses the settings: exit code $code"
runs_version 0.2.0

# Ctrl-C while it waits for a version that is never ready.
inside timeout --signal=INT 30 sh /mute/systemd/install.sh | tail -3
runs_version 0.2.0

# Nothing of the caller's: a folder full of traps, and variables that lead there.
inside sh -c 'mkdir /trap; cd /trap
for name in venv pip json re shlex os doorpi argparse ensurepip compileall sitecustomize; do
    echo "open(\"/trap/sprung-$name\", \"w\")" >$name.py; done
echo "[global]" >pip.conf; echo "index-url = http://127.0.0.1:9" >>pip.conf'
version calm '/^__version__ = /s/=.*/= "0.2.1"/'
inside env -C /trap PYTHONPATH=/trap PYTHONSTARTUP=/trap/os.py PIP_CONFIG_FILE=/trap/pip.conf \
    PIP_INDEX_URL=http://127.0.0.1:9 HOME=/trap DOORPI_CONFIG=/trap/x sh /calm/systemd/install.sh \
    >"$work/calm" 2>&1 || { failed "from a folder of traps: exit code $?"; cat "$work/calm"; }
check "nothing of the caller's folder or environment was run" \
    sh -c '! ls /trap/sprung-* 2>/dev/null | grep .'
runs_version 0.2.1

version torn 's/^import argparse/import argparse, no_such_module/'
install /torn/systemd/install.sh
code=$?
[ "$code" = 1 ] && passed "a version that cannot be built: exit code 1" ||
    failed "a version that cannot be built: exit code $code"
runs_version 0.2.1

pid=$(property MainPID)
version later '/^__version__ = /s/=.*/= "0.5.0"/'
install /later/systemd/install.sh --no-start || failed "--no-start: exit code $?"
[ "$(property MainPID)" = "$pid" ] && passed "--no-start: the running door was let be" ||
    failed "--no-start: the door was restarted"
inside systemctl restart doorpi
runs_version 0.5.0
[ "$(inside sha256sum "$toml")" = "$before" ] && passed "the settings are untouched" ||
    failed "the settings were changed"
check "no more versions are kept than two" sh -c '[ $(ls -d /opt/doorpi/[0-9]* | wc -l) -le 2 ]'

step "back from a program that is two versions ahead"
# Two migrations of each database, a reason and a result of its own, and rows with them.
cat >"$work/ahead.py" <<'PYTHON'
import re, sys
text = open("/src/doorpi.py", encoding="utf-8").read()
for first, table in (("LOG_TABLES", "events"), ("CARDS_TABLES", "cards")):
    newer = (f", 'ALTER TABLE {table} ADD COLUMN floor TEXT; CREATE TABLE more (x)',"
             f" 'ALTER TABLE {table} ADD COLUMN hand TEXT')")
    text, count = re.subn(
        rf"schema = (\({first}[^()]*)\)", rf"schema = \1{newer}", text)
    assert count == 1, first
text, count = re.subn(
    r'^    GRANTED = "granted"$', '    GRANTED = "granted-by-the-moon"', text, flags=re.M)
assert count == 1
text, count = re.subn(r'^__version__ = .*$', f'__version__ = "{sys.argv[1]}"', text, flags=re.M)
if "mute" in sys.argv:
    text, count = re.subn(r'message = f"\{state\.upper\(\)\}=1"', 'message = "MUTE=1"', text)
    assert count == 1
open(sys.argv[2], "w", encoding="utf-8").write(text)
PYTHON
ahead() { # NAME VERSION [mute]
    inside cp -r /src "/$1"
    inside python3 - "$2" "/$1/doorpi.py" "${3-}" <"$work/ahead.py" || failed "/$1"
}
schemas() {
    inside python3 - <<'PYTHON'
import sqlite3
for name in ("doorpi.db", "cards.db"):
    print(sqlite3.connect(f"/var/lib/doorpi/{name}").execute("PRAGMA user_version").fetchone()[0])
PYTHON
}
works_as_before() {
    sleep 1
    tap_ends unlocked
    tap_ends not-enabled 04D4E5F6071829
    says "the log can be read" "Ken Sato" doorpi --config /run/tap.toml log
    check "and is whole" doorpi --config /run/tap.toml log --verify
    says "the list can be written" "Jo Guest may enter" doorpi allow "Jo Guest" --uid 04D4E5F6071829
    says "and a card taken off again" "Jo Guest" doorpi revoke "Jo Guest"
    tap_ends not-enabled 04D4E5F6071829
    tap_ends locked
}
here=$(inside sed -n 's/^__version__ = "\(.*\)"/\1/p' /opt/doorpi/current/doorpi.py)
newer=$(schemas | awk '{ printf "%d ", $1 + 2 }')
ahead ahead-mute 9.0.0 mute
began=$(now)
install /ahead-mute/systemd/install.sh && failed "a newer one that is never ready: exit code 0" ||
    passed "a newer one that is never ready was put back after $(since "$began")"
runs_version "$here"
printf '        schemas now: %s\n' "$(schemas | tr '\n' ' ')"
works_as_before

ahead ahead 9.0.1
install /ahead/systemd/install.sh >/dev/null && passed "a newer one that gets ready" ||
    failed "a newer one: exit code $?"
runs_version 9.0.1
sleep 1
tap_ends granted-by-the-moon
says "it lets a guest in" "Jo Guest may enter" doorpi allow "Jo Guest" --uid 04D4E5F6071829
tap_ends granted-by-the-moon 04D4E5F6071829
says "and revokes the card" "Jo Guest" doorpi revoke "Jo Guest"
[ "$(schemas | tr '\n' ' ')" = "$newer" ] && passed "both databases are its own now" ||
    failed "schemas: $(schemas)"
# Put back by hand.
inside sh -c 'cd /opt/doorpi; ln -sfn "$(readlink old)" current; systemctl restart doorpi'
runs_version "$here"
says "the log has the words of the newer one" "granted-by-the-moon" \
    doorpi --config /run/tap.toml log
tap_ends not-enabled 04D4E5F6071829
works_as_before
[ "$(schemas | tr '\n' ' ')" = "$newer" ] && passed "the databases are still the newer one's" ||
    failed "schemas: $(schemas)"
install /later/systemd/install.sh >/dev/null || failed "installed again: exit code $?"

step "without the network"
inside sh -c 'mkdir /wheels; cd /wheels; python3 -m pip wheel \
    --use-pep517 --wheel-dir /wheels nfcpy tomli-w segno paho-mqtt' >"$work/wheels" 2>&1 || {
    failed "no wheels"
    tail -5 "$work/wheels"
}
version far '/^__version__ = /s/=.*/= "0.6.0"/'
inside unshare --net sh /far/systemd/install.sh --no-start --offline-wheels /wheels &&
    passed "--offline-wheels" || failed "--offline-wheels: exit code $?"
inside systemctl restart doorpi
runs_version 0.6.0
sleep 1
tap_ends unlocked
inside sh -c 'apt-get -q -y remove python3-gpiozero' >/dev/null 2>&1
offline() { inside unshare --net sh /far/systemd/install.sh --no-start --offline-wheels /wheels; }
said=$(offline 2>&1) && failed "packages are missing, and exit code 0"
bring=$(printf '%s\n' "$said" | sed -n '$s/^doorpi: \(mkdir debs; \)sudo /\1/p')
[ -n "$bring" ] && passed "it says what to bring: $bring" || failed "$said"
inside sh -c "cd /root; $bring && cp debs/*.deb /wheels" >"$work/bring" 2>&1 ||
    failed "that does not work: $(cat "$work/bring")"
offline && passed "apt's packages were brought along, too" || failed "not installed from /wheels"
check "they are there" python3 -c 'import gpiozero, cryptography'

version worse '/^__version__ = /s/=.*/= "0.7.0"/; s/^EX_OK, .*EX_CONFIG = .*/&\nif "run" in sys.argv: sys.exit(78)/'
install /worse/systemd/install.sh | tail -3
runs_version 0.6.0

if [ -n "$upgrade" ]; then
    step "the system's Python becomes that of $upgrade"
    python_is() { inside python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }
    was=$(python_is)
    inside sh -c "sed -i 's/$suite/$upgrade/g' /etc/apt/sources.list
        export DEBIAN_FRONTEND=noninteractive; apt-get -q update
        apt-get -q -y --no-install-recommends install python3 python3-gpiozero \
            python3-cryptography python3-tomli-w python3-pip" \
        >"$work/upgrade" 2>&1 </dev/null || {
        failed "apt-get"
        tail -5 "$work/upgrade"
    }
    give /etc/ssl/certs/ca-certificates.crt # the package has made it anew
    [ "$(python_is)" != "$was" ] && passed "Python $was is now $(python_is)" ||
        failed "still Python $was"
    began=$(now)
    check "the door starts" systemctl restart doorpi
    passed "start to ready, compiling: $(since "$began")"
    sleep 1
    tap_ends locked
    says "the verbs work" "Ken Sato" doorpi --config /run/tap.toml log
    inside rm -r /opt/doorpi/current/lib/nfc
    inside systemctl restart doorpi
    bring="sudo sh /opt/doorpi/current/systemd/install.sh"
    says "a library that is missing: the journal says what brings it back" "$bring" \
        journalctl -u doorpi -o cat --no-pager
    count=$(journal | grep -c "No module named")
    sleep 12
    [ "$(journal | grep -c "No module named")" = "$count" ] && passed "once" ||
        failed "the journal is filled with it"
    check "that command exists, and works" sh /opt/doorpi/current/systemd/install.sh
    inside systemctl restart doorpi
    sleep 1
    check "a tap is read again" doorpi --config /run/tap.toml tap 04A1B2C3D4E580
fi

################################################################################
step "a backup"
################################################################################

says "somebody is let in, and will be known" "Rei Kato may enter" \
    doorpi allow "Rei Kato" --uid 04E5F607182930
check "a backup needs no key" doorpi backup /root/plain.json
check "and has none" sh -c 'read -r url device key </run/cloud; ! grep -q "$key" /root/plain.json'
# As in the drop-in; on a computer where the door may read its keys it is not needed.
with_keys() { inside env CREDENTIALS_DIRECTORY=/etc/doorpi/secrets "$@"; }
with_keys doorpi backup /root/door.json --with-secrets || failed "with keys: exit code $?"
check "it is root's alone" sh -c '[ "$(stat -c %a:%U /root/door.json)" = 600:root ]'
check "the door runs on" systemctl -q is-active doorpi
last=$(result | sed 's/.*"id": \([0-9]*\).*/\1/')

################################################################################
step "taken off"
################################################################################

check "the owner's own modprobe line has survived all that" \
    grep -qx "blacklist cdc_acm" /etc/modprobe.d/doorpi.conf
inside sh /src/systemd/uninstall.sh || failed "uninstall.sh: exit code $?"
check "the program, the unit and the rules are gone" sh -c \
    'for path in /opt/doorpi /usr/local/bin/doorpi /etc/systemd/system/doorpi.service \
        /etc/systemd/system/doorpi-clock.service /run/doorpi-clock /run/doorpi \
        /etc/systemd/system/doorpi-online.service /etc/systemd/system/doorpi-online.path \
        /etc/udev/rules.d/60-doorpi.rules /etc/modprobe.d/doorpi-readers.conf \
        /etc/sysusers.d/doorpi.conf
    do [ ! -e $path ] || { echo $path; exit 1; }; done'
check "settings, data and user are kept" sh -c \
    "[ -e $toml ] && [ -e /etc/modprobe.d/doorpi.conf ] &&
        [ -e /var/lib/doorpi/doorpi.db ] && getent passwd doorpi"
install /src/systemd/install.sh >/dev/null 2>&1 && sleep 1
says "installed again, everything is there" "Ken Sato" doorpi --config /run/tap.toml log
inside sed -i '/^\[door\]/astate_dir = "/srv/door"' "$toml"
says "another state_dir is named" "kept: /srv/door" sh /src/systemd/uninstall.sh --purge
check "nothing is left" sh -c '[ ! -e /etc/doorpi ] && [ ! -e /var/lib/doorpi ] &&
    [ ! -e /etc/systemd/system/doorpi.service.d ] && ! getent passwd doorpi &&
    ! getent group doorpi && ! find /etc /opt /usr/local /var/lib -name "*doorpi*" | grep .'

################################################################################
step "the backup, on a fresh Pi"
################################################################################

install /src/systemd/install.sh >"$work/again" 2>&1 || failed "installed: exit code $?"
says "not while the door runs" "the door is running" doorpi restore /root/door.json
inside systemctl stop doorpi
says "the backup is put back" "$toml and 1 card of the list" doorpi restore /root/door.json
[ "$(inside sha256sum "$toml")" = "$before" ] && passed "the settings are the same" ||
    failed "other settings"
door_reads "the door may read them" "$toml"
door_reads "and its key" /etc/doorpi/lock.key
check "nothing of it is anybody else's" sh -c \
    '[ -z "$(find /var/lib/doorpi ! -user doorpi)" ] && [ -z "$(find /etc/doorpi -type f -perm /o+rwx)" ]'
check "check has no objection" doorpi check
inside sh -c 'mkdir -p /etc/systemd/system/doorpi.service.d
printf "[Service]\nEnvironment=GPIOZERO_PIN_FACTORY=mock\n" \
    >/etc/systemd/system/doorpi.service.d/override.conf; systemctl daemon-reload'
check "the door starts" systemctl start doorpi
sleep 1
tap_ends granted
tap_ends granted 04E5F607182930
tap_ends not-enabled 04D4E5F6071829
says "the log begins with where the old one ended" "whose log ended with row $last" \
    doorpi --config /run/tap.toml log
says "doctor knows of the backup" "backup" doorpi doctor
says "not over people and a log" "not a new Pi" sh -c \
    'systemctl stop doorpi; doorpi restore /root/door.json'
check "a second time does no harm" sh /src/systemd/uninstall.sh --purge

printf '\n%s\n' "$([ "$failures" = 0 ] && echo "all well" || echo "$failures FAILED")"
[ "$failures" = 0 ]
