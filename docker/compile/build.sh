#!/bin/bash
# Compiles TensorFlow with --config=mkl --config=opt in a container and leaves the wheel in build/compiled/.
#
#   docker/compile/build.sh [avx2|avx512|avx512_bf16|amx|native]      hours: a day of one core, 16 GiB of memory or more
#   docker/build.sh build/compiled/tensorflow_cpu-*.whl               then the images on it
#
# Read from the environment: DOCKER, BASE, what reaches your package registries (as docker/build.sh); JOBS,
# TENSORFLOW_VERSION (as compile.sh beside this).
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=docker/secrets.sh
. "$here/../secrets.sh"
[[ $# -le 1 ]] || fail "$# words are too many: give one instruction set, or nothing."
keep_secrets
cd -P "$here/.."
build_with_secrets --file compile/Dockerfile --target wheel --output type=local,dest=../build/compiled \
    --build-arg "BASE=${BASE:-debian:bookworm-slim}" --build-arg "INSTRUCTION_SET=${1:-avx2}" \
    --build-arg "JOBS=${JOBS:-}" --build-arg "TENSORFLOW_VERSION=${TENSORFLOW_VERSION:-2.18.1}" .
