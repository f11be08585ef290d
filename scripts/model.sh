#!/bin/sh
# Model-checks the concurrent core: flights, recordings, fills and the purges that race them.
#
#     scripts/model.sh                        5,000 random and 5,000 PCT schedules for each test
#     MODEL_SCHEDULES=100000 scripts/model.sh
#
# `--cfg shuttle` swaps the locks of these modules for shuttle's, so it builds in a directory of
# its own. A failure prints a schedule that `shuttle::replay` repeats.
set -eu
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/shuttle"
export RUSTFLAGS="--cfg shuttle"
exec cargo test --lib --all-features model:: "$@"
