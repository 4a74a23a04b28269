#!/bin/sh
# Every check: lint, format, types, tests. Arguments go to pytest, paths in them are seen
# from the top level: sh tests/run.sh -k lockdown tests/door/test_door.py
#
#   sh tests/run.sh --quick [...]    half a minute: of the tests only those that are pure
#
# A test that is skipped for a reason that is not in tests/skips.txt fails the run.
# DOORPI_MAX_SKIPPED=0 sh tests/run.sh fails as well when more than that are skipped.
# shellcheck source=tests/venv.sh
. "$(dirname -- "$0")/venv.sh"

prepare_venv tools
cd -- "$root" || exit 1

# Caches belong to .venv, not to the top level.
export HYPOTHESIS_STORAGE_DIRECTORY="$venv/cache/hypothesis"
export PYTHONPYCACHEPREFIX="$venv/cache/pycache"
unset PYTHONDONTWRITEBYTECODE # some have it set: then all is compiled at each start

quick=
if [ "${1-}" = --quick ]; then
    quick=yes
    shift
    set -- tests/core tests/door "$@"
fi

summary=
failed=0
step() {
    name=$1
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        result=ok
    else
        result="FAILED (exit code $?)"
        failed=1
    fi
    note "$name" "$result"
}
note() {
    summary="$summary$(printf '%-9s %s' "$1" "$2")
"
}

# pytest with `$@`. No test to run is no failure, as long as another step has one.
no_tests=5
selected=0
skips=
# shellcheck disable=SC2317 # called by step
some_tests() {
    report=$venv/cache/tests.$$.xml
    code=0
    "$python" -m pytest --junitxml="$report" "$@" || code=$?
    if [ "$code" -eq "$no_tests" ]; then return 0; fi
    selected=1
    skips="$skips$(grep -o '<skipped [^>]*' "$report")
"
    rm -f "$report"
    return "$code"
}

# What Python compiles for the tests is compiled once, beside the first steps, and not by
# each of those that run them.
"$python" -m pytest -p no:cacheprovider --collect-only -qq "$@" >/dev/null 2>&1 </dev/null &

step lint "$python" -m ruff check doorpi.py tests
step format "$python" -m ruff format --check doorpi.py tests
wait
# Beside the tests, most of which wait.
types=$venv/cache/types.$$
"$python" -m mypy doorpi.py >"$types" 2>&1 </dev/null &
# shellcheck disable=SC2317 # called by step
types_checked() {
    code=0
    wait "$!" || code=$?
    cat "$types"
    rm -f "$types"
    return "$code"
}
marked='not realtime'
if [ "$quick" ]; then marked='not realtime and not slow'; fi
# Four at a time on two cores, for the same reason. (-n 0 for a debugger.)
step tests some_tests -n 4 --dist loadscope --no-loadscope-reorder "$@" -m "$marked"
step types types_checked
# Nothing of ours may keep these from being on time.
if [ -z "$quick" ]; then step realtime some_tests "$@" -n 0 -m realtime; fi

if [ "$selected" -eq 0 ]; then
    note selected "FAILED (not one test)"
    failed=1
fi
skipped=$(printf '%s' "$skips" | grep -c '<skipped')
known=$(grep '^[^#]' tests/skips.txt)
unknown=$(printf '%s' "$skips" | sed -n 's/.* message="\([^"]*\)".*/\1/p' | grep -vF "$known")
if [ -n "$unknown" ]; then
    note skipped "FAILED (not in tests/skips.txt: $unknown)"
    failed=1
elif [ "$skipped" -gt "${DOORPI_MAX_SKIPPED:-$skipped}" ]; then
    note skipped "FAILED ($skipped, and at most $DOORPI_MAX_SKIPPED may be)"
    failed=1
else
    note skipped "$skipped"
fi
printf '\n%s' "$summary"
exit "$failed"
