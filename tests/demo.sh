#!/bin/sh
# The whole program without hardware: sh tests/demo.sh [--taps "ken guest stranger ken"]
# shellcheck source=tests/venv.sh
. "$(dirname -- "$0")/venv.sh"

prepare_venv runtime
exec "$python" "$root/tests/demo.py" "$@"
