# shellcheck shell=sh
# Sourced by demo.sh and run.sh: keeps `.venv` at the top level of the checkout in step
# with doorpi.py and tests/requirements.txt. Needs python3 >= 3.11 and pip, nothing else.
#
#   prepare_venv runtime    what doorpi.py needs: its PEP 723 block
#   prepare_venv tools      that, and what tests/requirements.txt lists
#
# Each part has a stamp that says what it was built from; it is written last, so a
# build that was interrupted is done again. A .venv whose stamps fit is used as it is, without
# the network. One that does not fit is built again from nothing: what is in it is
# always what a fresh machine would get. Until that is done the old one lies aside, and
# comes back if it fails: without the network, say.
#
# PYTHON=python3.13 sh tests/run.sh builds it with another interpreter.
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1
venv=$root/.venv
old=$root/.venv.old
python=$venv/bin/python
base=${PYTHON:-python3}

export PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_PROGRESS_BAR=off
export PIP_NO_INPUT=1 # its output is kept back: a question would never be seen
export PIP_USER=0     # some have `user = true` in their pip.conf; no venv can obey that

say() { printf 'doorpi: %s\n' "$*" >&2; }
die() {
    say "$@"
    exit 1
}

prepare_venv() {
    wanted
    if "${1}_fits"; then return; fi
    # The lock is on this very file: nothing is left lying about, and the kernel lets go of
    # it when the last process of a build is gone, however it went.
    exec 9<"$root/tests/venv.sh"
    if command -v flock >/dev/null && ! flock -n 9; then
        say "another build of .venv is running, waiting for it"
        flock 9
    fi
    put_back # if a build was interrupted by force
    if ! "${1}_fits"; then
        trap put_back EXIT
        trap 'exit 1' HUP INT TERM
        if ! runtime_fits || [ -e "$venv/tools.stamp" ]; then build_runtime; fi
        if [ "$1" = tools ]; then add_tools; fi
        trap - EXIT HUP INT TERM
        rm -rf "$old"
    fi
    exec 9<&-
}

# What the stamps must say.
wanted() {
    command -v "$base" >/dev/null ||
        die "$base is missing: DoorPi needs Python 3.11 or newer and pip" \
            "(Debian: apt-get install python3 python3-pip)"
    interpreter=$(describe "$base") ||
        die "$base does not run: DoorPi needs Python 3.11 or newer and pip" \
            "(Debian: apt-get install python3 python3-pip)"
    case $interpreter in
    "Python "*)
        die "$base is $interpreter: DoorPi needs Python 3.11 or newer" \
            "(Debian 12 has it; if there is another one here: PYTHON=python3.12 sh $0)"
        ;;
    esac
    runtime=$(
        printf '%s\n' "$interpreter"
        cksum <"$root/tests/venv.sh"
        sed -n '\|^# /// script$|,\|^# ///$|p' "$root/doorpi.py"
    )
    tools=$(cat "$root/tests/requirements.txt") || exit 1
}

# Version and machine: compiled packages fit no other. One that is too old is a `Python`.
describe() {
    "$1" -ISc 'import sys
if sys.version_info < (3, 11):
    print("Python " + sys.version.split()[0])
else:
    machine = getattr(sys.implementation, "_multiarch", sys.platform)
    print("python%d.%d%s" % (*sys.version_info[:2], sys.abiflags), machine)'
}

runtime_fits() {
    stamp_says runtime "$runtime" || return 1
    # The interpreter that was just asked need not be asked again.
    # shellcheck disable=SC3013  # -ef: POSIX since 2024, in dash since long before
    [ "$python" -ef "$(command -v "$base")" ] ||
        [ "$(describe "$python" 2>/dev/null)" = "$interpreter" ]
}
tools_fits() { runtime_fits && stamp_says tools "$tools"; }
stamp_says() { [ -f "$venv/$1.stamp" ] && [ "$(cat "$venv/$1.stamp")" = "$2" ]; }

build_runtime() {
    # The interpreter under an activated environment: that environment may be .venv itself.
    base=$("$base" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))')
    "$base" -c 'import pip' 2>/dev/null ||
        die "$base has no pip (Debian: apt-get install python3-pip)"
    say "building .venv (needs the network, may take a minute)"
    if exists "$venv"; then mv "$venv" "$old" || die "cannot move $venv aside"; fi
    # Debian's python3 alone has no ensurepip: pip is brought in from outside.
    "$base" -m venv --without-pip "$venv" || die "cannot create $venv"
    quietly "$base" -m pip --python "$python" install 'pip>=26'
    quietly "$python" -m pip install --requirements-from-script "$root/doorpi.py"
    printf '%s\n' "$runtime" >"$venv/runtime.stamp" || die "cannot write into $venv"
}

put_back() {
    if exists "$old"; then
        { rm -rf "$venv" && mv "$old" "$venv"; } || die "cannot bring $old back"
        say "the .venv from before is back"
    fi
}
exists() { [ -e "$1" ] || [ -L "$1" ]; }

add_tools() {
    say "adding the developers' tools to .venv"
    echo unfinished >"$venv/tools.stamp" || die "cannot write into $venv"
    quietly "$python" -m pip install --requirement "$root/tests/requirements.txt"
    printf '%s\n' "$tools" >"$venv/tools.stamp" || die "cannot write into $venv"
}

# Runs pip; its output is shown if it fails. Failed before anything was installed (no network,
# say): what there was is still good.
quietly() {
    if "$@" >"$venv/pip.log" 2>&1 </dev/null; then return; fi
    cat "$venv/pip.log" >&2
    if ! grep -q '^Installing collected packages' "$venv/pip.log"; then
        rm -f "$venv/tools.stamp"
    fi
    die "pip failed, see above; the new .venv is not ready"
}
