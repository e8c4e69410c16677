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
#   SOURCE_DATE_EPOCH   the seconds that stand as the images' date; now where not given
# What reaches your package registries is used in the build and left out of the images: your pip.conf, PIP_INDEX_URL and
# its kin, proxies, a bundle of certificates (PIP_CERT, SSL_CERT_FILE, REQUESTS_CA_BUNDLE), APT_CONFIG.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=docker/secrets.sh
. "$here/secrets.sh"

docker=${DOCKER:-docker}
base=${BASE:-debian:bookworm-slim}

check_engine() {
    command -v "$docker" > /dev/null || fail "There is no $docker here: install Docker, or name its client: DOCKER=/path"
    "$docker" info > /dev/null 2>&1 || fail "No Docker engine answers $docker info. Start one, or say where: DOCKER_HOST=..."
    local version
    version=$("$docker" version --format '{{.Client.Version}}')
    "$docker" buildx version > /dev/null 2>&1 || [[ ${version%%.*} -lt 23 ]] || fail "$docker $version cannot build with\
 BuildKit: install its buildx plugin, or name another client: DOCKER=/usr/bin/docker"
}

# Whether a file is a whole wheel of TensorFlow, whatever its package is called (tf_nightly_cpu): a zip ends with a mark of
# four bytes and at the most 64 KiB more, and names its files in plain text. Others' are named tensorflow_..., too.
check_wheel() {
    local name=${1##*/}
    [[ $name =~ ^[^-]+-[^-]+(-[0-9][^-]*)?-[^-]+-[^-]+-[^-]+\.whl$ ]] || fail "$name is no name of a wheel: pip wants\
 NAME-VERSION-PYTHON-ABI-PLATFORM.whl, as it was when the wheel was built."
    [[ $(tail -c 65600 -- "$1" | LC_ALL=C grep -acF $'PK\5\6') -gt 0 ]] || fail "$1 is no wheel, or its end is missing."
    LC_ALL=C grep -aqF tensorflow/libtensorflow_framework.so. -- "$1" || fail "$1 is no wheel of TensorFlow. Give one that\
 has TensorFlow itself in it."
}

# The digest under which the base was pulled; nothing where it was not: a base that only this engine has. BuildKit would
# pull one without telling.
digest_of_base() {
    "$docker" image inspect "$base" > /dev/null 2>&1 || "$docker" pull --quiet "$base" > /dev/null 2>&1 || true
    "$docker" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$base" 2>/dev/null |
        sed -n '1s/.*@//p' || true
}

# build TARGET NAME:TAG TITLE [--build-arg NAME=VALUE]...
build() {
    printf 'Building %s.\n' "$2"
    local revision created digest
    revision=$(git describe --always --dirty --abbrev=40 2>/dev/null || echo unknown)
    # Only labels of the last stage tell it, so that all layers can come from the engine's cache.
    created=$(date --utc --date="@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%Y-%m-%dT%H:%M:%SZ)
    digest=$(digest_of_base)
    build_with_secrets --file docker/Dockerfile --target "$1" --tag "$2" \
        --build-arg "IMAGE=$2" --build-arg "TITLE=$3" --build-arg "BASE=$base" --build-arg "VERSION=$version" \
        --build-arg "REVISION=$revision" --build-arg "CREATED=$created" \
        ${digest:+--label "org.opencontainers.image.base.digest=$digest"} "${@:4}" .
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

[[ $# -le 1 ]] || fail "$# words are too many: give the path of one wheel, or nothing."
case ${1-} in
    '' | --tests) ;;
    --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit ;;
    *.whl)
        [[ -f $1 ]] || fail "There is no $1."
        check_wheel "$1"
        ;;
    *) fail "$1 is no wheel: give the path of a file that ends in .whl, or nothing." ;;
esac
[[ -z ${PINS:-} || -f $PINS ]] || fail "There is no PINS=$PINS."
# Before the folder changes, on which relative paths depend.
wheel=$(realpath --canonicalize-missing -- "${1:-.}")
pins=$(realpath --canonicalize-missing -- "${PINS:-$here/../constraints.txt}")
keep_secrets
cd -P "$here/.."
check_engine
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
        build_base compiled "/wheels/$(basename "$wheel")" "$pins"
        build_program darchr/tf-bench:compiled compiled
        ;;
esac
"$docker" image ls --filter 'reference=darchr/tf-*' --format 'table {{.Repository}}\t{{.Tag}}\t{{.Size}}'
