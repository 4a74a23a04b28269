#!/bin/sh
# Every check: lint, format, types, tests. Arguments go to pytest, paths in them are seen
# from the top level: sh tests/run.sh -k relock tests/test_door.py
# shellcheck source=tests/venv.sh
. "$(dirname -- "$0")/venv.sh"

prepare_venv tools
cd -- "$root" || exit 1

# Caches belong to .venv, not to the top level.
export RUFF_CACHE_DIR=.venv/cache/ruff
export HYPOTHESIS_STORAGE_DIRECTORY="$venv/cache/hypothesis"
export PYTHONPYCACHEPREFIX="$venv/cache/pycache"
unset PYTHONDONTWRITEBYTECODE # some have it set: then all is compiled at each start

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
    summary="$summary$(printf '%-7s %s' "$name" "$result")
"
}

# What Python compiles for the tests is compiled once, beside the first steps, and not by
# each of those that run them.
"$python" -m pytest -c tests/pytest.ini --rootdir=. -p no:cacheprovider \
    --collect-only -qq "$@" >/dev/null 2>&1 </dev/null &

step lint "$python" -m ruff check --config tests/ruff.toml doorpi.py tests
step format "$python" -m ruff format --check --config tests/ruff.toml doorpi.py tests
step types "$python" -m mypy --strict --config-file= --cache-dir=.venv/cache/mypy doorpi.py
wait
# Three at a time on two cores: much of what they do is wait. (-n 0 for a debugger.)
step tests "$python" -m pytest -c tests/pytest.ini --rootdir=. \
    -o cache_dir=.venv/cache/pytest -n 3 --dist loadscope "$@"

printf '\n%s' "$summary"
exit "$failed"
