#!/bin/bash
# Builds the images, and checks each by what it says of itself.
#
#   docker/build.sh                          darchr/tf-compiled-base and darchr/tf-bench: the stock oneDNN wheel;
#                                            darchr/tf-compiled-base:mkl and darchr/tf-bench-mkl: Intel's MKL wheel
#   docker/build.sh path/to/tensorflow.whl   darchr/tf-compiled-base:compiled and darchr/tf-bench:compiled, on that wheel
#   docker/build.sh --tests                  darchr/tf-bench:tests and darchr/tf-bench-mkl:tests: with pytest
#
# Read from the environment:
#   DOCKER   Docker's client; docker where not given. It needs BuildKit: the buildx plugin, or a client before version 23.
#   HOROVOD  no: leave Horovod out, whose compilation takes most of the time
#   BASE     the image to begin with; debian:bookworm-slim where not given
#   PINS     versions that differ from constraints.txt, for a wheel of another TensorFlow than 2.18
# What reaches your package registries is used in the build and left out of the images: your pip.conf, PIP_INDEX_URL and
# its kin, proxies, a bundle of certificates (PIP_CERT, SSL_CERT_FILE, REQUESTS_CA_BUNDLE), APT_CONFIG.
set -euo pipefail
# Before the folder changes, on which a relative path depends.
wheel=$(realpath --canonicalize-missing -- "${1:-.}")
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

docker=${DOCKER:-docker}
base=${BASE:-debian:bookworm-slim}
secrets=

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

# copy_first FILE PATH...: the contents of the first path that is a file, or nothing.
copy_first() {
    local file=$1 path
    shift
    : > "$file"
    for path; do
        [[ ! -f $path ]] || { cat "$path" > "$file" && return; }
    done
}

check_engine() {
    command -v "$docker" > /dev/null || fail "There is no $docker here: install Docker, or name its client: DOCKER=/path"
    "$docker" info > /dev/null 2>&1 || fail "No Docker engine answers $docker info. Start one, or say where: DOCKER_HOST=..."
    local version
    version=$("$docker" version --format '{{.Client.Version}}')
    "$docker" buildx version > /dev/null 2>&1 || [[ ${version%%.*} -lt 23 ]] || fail "$docker $version cannot build with\
 BuildKit: install its buildx plugin, or name another client: DOCKER=/usr/bin/docker"
}

# Writes the secrets of the build into a folder that is gone with this script.
keep_secrets() {
    secrets=$(mktemp -d)
    trap 'rm -rf "$secrets"' EXIT
    local name
    for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT PIP_RETRIES \
        http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [[ -z ${!name:-} ]] || printf '%s=%q\n' "$name" "${!name}"
    done > "$secrets/environment"
    copy_first "$secrets/pip_conf" "${PIP_CONFIG_FILE:-}" ~/.config/pip/pip.conf ~/.pip/pip.conf /etc/pip.conf
    copy_first "$secrets/certificates" "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" "${REQUESTS_CA_BUNDLE:-}"
    copy_first "$secrets/apt_conf" "${APT_CONFIG:-}"
}

# build TARGET NAME:TAG TITLE [--build-arg NAME=VALUE]...
build() {
    printf 'Building %s.\n' "$2"
    local revision created secret
    local -a options=()
    revision=$(git describe --always --dirty --abbrev=40 2>/dev/null || echo unknown)
    created=$(git log -1 --format=%cI 2>/dev/null || echo unknown)
    for secret in environment pip_conf certificates apt_conf; do
        options+=(--secret "id=$secret,src=$secrets/$secret")
    done
    DOCKER_BUILDKIT=1 "$docker" build --file docker/Dockerfile --target "$1" --tag "$2" "${options[@]}" \
        --build-arg "IMAGE=$2" --build-arg "TITLE=$3" --build-arg "BASE=$base" --build-arg "VERSION=$version" \
        --build-arg "REVISION=$revision" --build-arg "CREATED=$created" "${@:4}" .
}

# build_base TAG TENSORFLOW PINS: darchr/tf-compiled-base:TAG
build_base() {
    # Where a package has a version in both, it is that of PINS.
    cat "$3" constraints.txt | awk -F== '/==/ && !seen[tolower($1)]++' > build/image/constraints.txt
    build image "darchr/tf-compiled-base:$1" 'TensorFlow and Horovod' --build-arg STAGE=base --build-arg "TENSORFLOW=$2" \
        --build-arg "HOROVOD=${HOROVOD:-yes}"
}

# build_program NAME:TAG TAG_OF_BASE: the program on that base; it says of itself that TensorFlow computes with oneDNN.
build_program() {
    build image "$1" tf-bench --build-arg STAGE=program --build-arg "COMPILED=darchr/tf-compiled-base:$2"
    printf 'Checking %s.\n' "$1"
    "$docker" run --rm --network none -e TF_ENABLE_ONEDNN_OPTS=1 "$1" run_benchmark.py machine --require=onednn
}

# build_tests NAME TAG_OF_BASE
build_tests() {
    build tests "$1:tests" 'tests of tf-bench' --build-arg "COMPILED=darchr/tf-compiled-base:$2"
}

# pin FILE PACKAGE: 'PACKAGE==VERSION' as the file has it.
pin() {
    grep -E "^$2==" "$1"
}

case ${1-} in
    '' | --tests) ;;
    *.whl) [[ -f $wheel ]] || fail "There is no $1." ;;
    *) fail "$1 is no wheel: give the path of a file that ends in .whl, or nothing." ;;
esac
check_engine
keep_secrets
version=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" bench/__init__.py)
rm -rf build/image
mkdir -p build/image/wheels
stock=$(pin constraints.txt tensorflow-cpu)
mkl=$(pin docker/constraints-mkl.txt intel-tensorflow)
case ${1-} in
    '')
        build_base latest "$stock" constraints.txt
        build_program darchr/tf-bench:latest latest
        build_base mkl "$mkl" docker/constraints-mkl.txt
        build_program darchr/tf-bench-mkl:latest mkl
        ;;
    --tests)
        build_tests darchr/tf-bench latest
        build_tests darchr/tf-bench-mkl mkl
        ;;
    *.whl)
        cp "$wheel" build/image/wheels/
        build_base compiled "/wheels/$(basename "$wheel")" "${PINS:-constraints.txt}"
        build_program darchr/tf-bench:compiled compiled
        ;;
esac
"$docker" image ls --filter 'reference=darchr/tf-*' --format 'table {{.Repository}}\t{{.Tag}}\t{{.Size}}'
