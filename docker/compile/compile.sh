#!/bin/bash
# Compiles TensorFlow: sources, Bazel, configuration, wheel. Every step is a function; the settings are below.
#
#   compile.sh SOURCES WHEELS       clones into SOURCES and leaves the wheel in WHEELS
#   compile.sh --dry-run S W        prints the commands, and runs none
#
# Read from the environment:
#   TENSORFLOW_VERSION   2.18.1 where not given: the newest that Horovod 0.28.1 compiles against
#   INSTRUCTION_SET      avx2 (the default), avx512, avx512_bf16, amx, native: the least that a processor must have
#   JOBS                 compilers at once; as many as processors, but one for 2 GiB of memory, where not given
set -euo pipefail

version=${TENSORFLOW_VERSION:-2.18.1}
# What .bazelversion of TensorFlow 2.18 says.
bazel_version=6.5.0
# Where releases of both are; a mirror with the same paths serves as well.
releases=${RELEASES:-https://github.com}
dry=

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 2
}

# Runs a command, or prints it in a dry run.
run() {
    if [[ -n $dry ]]; then
        printf '%q ' "$@"
        printf '\n'
    else
        "$@"
    fi
}

# GCC's name for the least processor of an instruction set.
march() {
    case $1 in
        avx2) echo haswell ;;
        avx512) echo cascadelake ;;
        avx512_bf16) echo cooperlake ;;
        amx) echo sapphirerapids ;;
        native) echo native ;;
        *) fail "INSTRUCTION_SET=$1 is not known: avx2, avx512, avx512_bf16, amx or native." ;;
    esac
}

# A compiler of TensorFlow's larger files takes about 2 GiB.
default_jobs() {
    local processors gibibytes
    processors=$(nproc)
    gibibytes=$(awk '/^MemTotal:/ { print int($2 / 1048576) }' /proc/meminfo)
    echo $((gibibytes / 2 < processors ? (gibibytes / 2 > 0 ? gibibytes / 2 : 1) : processors))
}

fetch_bazel() {
    local name=bazel-$bazel_version-linux-x86_64 folder=$releases/bazelbuild/bazel/releases/download/$bazel_version
    run curl --fail --location --silent --show-error --output-dir /tmp --remote-name-all "$folder/$name" "$folder/$name.sha256"
    run sh -c "cd /tmp && sha256sum --check $name.sha256"
    run install -m 755 "/tmp/$name" /usr/local/bin/bazel
}

fetch_sources() {
    run git clone --quiet --depth 1 --branch "v$version" "$releases/tensorflow/tensorflow.git" "$sources"
}

# TensorFlow's ./configure asks for what is not in the environment. CC_OPT_FLAGS is what --config=opt means.
configure() {
    run env PYTHON_BIN_PATH=/usr/bin/python3 USE_DEFAULT_PYTHON_LIB_PATH=1 TF_NEED_ROCM=0 TF_NEED_CUDA=0 TF_NEED_CLANG=0 \
        TF_SET_ANDROID_WORKSPACE=0 CC_OPT_FLAGS="-march=$(march "$instruction_set") -Wno-sign-compare" \
        sh -c "cd '$sources' && ./configure"
}

# --config=mkl is oneDNN with Intel's OpenMP, instead of oneDNN on TensorFlow's own threads, as in stock wheels.
compile() {
    run sh -c "cd '$sources' && bazel build --config=mkl --config=opt --jobs=$jobs --repo_env=TF_PYTHON_VERSION=3.11\
 --repo_env=WHEEL_NAME=tensorflow_cpu //tensorflow/tools/pip_package:wheel"
    run mkdir -p "$wheels"
    run sh -c "cp '$sources'/bazel-bin/tensorflow/tools/pip_package/wheel_house/*.whl '$wheels/'"
}

if [[ ${1-} == --dry-run ]]; then
    dry=yes
    shift
fi
[[ $# == 2 ]] || fail 'two folders are expected: compile.sh [--dry-run] SOURCES WHEELS'
sources=$1
wheels=$2
instruction_set=${INSTRUCTION_SET:-avx2}
jobs=${JOBS:-$(default_jobs)}
march "$instruction_set" > /dev/null
fetch_bazel
fetch_sources
configure
compile
