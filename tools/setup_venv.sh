#!/bin/sh
# Makes .venv with everything that the program, its tests and its linters need; `make` calls it before each of them.
#
# Where nothing changed it does nothing. .venv/ready names what .venv was made from: this folder, the Python, and the
# contents of the files below. It is removed before anything is installed and written last, so that a set-up that was
# interrupted starts anew. .venv/horovod does the same for Horovod, which takes minutes to compile and is bound to
# TensorFlow's version alone.
#
# Read from the environment:
#   PYTHON      the Python for .venv; python3 or else the newest of python3.12 to 3.10 that fits, where not given
#   HOROVOD=no  leave Horovod out
#   CC, CXX     the compilers for Horovod
set -eu
cd -P "$(dirname "$0")/.."
# What would install elsewhere than in .venv, take packages from elsewhere, or make Horovod's build a part of this make.
unset PYTHONHOME PYTHONPATH PIP_PREFIX PIP_TARGET PIP_USER MAKEFLAGS MAKELEVEL MFLAGS

venv=.venv

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

# What decides whether there is a wheel: 'CPython 3.11 64 Linux x86_64 glibc'.
identity() {
    "$1" -c '
import os, platform, struct, sys
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION").split()[0]
except (AttributeError, ValueError):
    libc = "other-libc"
print("%s %d.%d %d %s %s %s" % (platform.python_implementation(), sys.version_info[0], sys.version_info[1],
                                8 * struct.calcsize("P"), platform.system(), platform.machine(), libc))' 2>/dev/null
}

# Sets `system` to the identity of Python $1, and `problem` to what keeps it from being used, or ''.
examine() {
    system=$(identity "$1") || system=
    # shellcheck disable=SC2086
    set -- "$1" $system
    case $system in
        '')
            problem="There is no Python that runs as $1: install CPython 3.10, 3.11 or 3.12, then name it:" ;;
        'CPython 3.1'[012]' 64 Linux x86_64 glibc' | 'CPython 3.1'[012]' 64 Linux aarch64 glibc' | \
            'CPython 3.1'[012]' 64 Darwin arm64 '*)
            problem=
            "$1" -c 'import ensurepip, venv' 2>/dev/null || problem="Python $3 ($1) cannot make virtual environments:\
 install its venv module (Debian and Ubuntu: apt-get install python$3-venv), then run make again."
            return ;;
        *)
            problem="TensorFlow 2.18 has no wheel for $2 $3 ($4 bits, $5 $6, $7), which is $1:\
 install 64-bit CPython 3.10, 3.11 or 3.12, then name it:" ;;
    esac
    problem="$problem make PYTHON=/path/to/python3.12 and the target."
}

# Whether .venv is done, made in this folder of a Python of identity $1, and still has it.
is_made_of() {
    [ "$(head -n 2 $venv/ready 2>/dev/null)" = "$(printf '%s\n' "$PWD" "$1")" ] &&
        [ "$(identity $venv/bin/python)" = "$1" ]
}

# Sets `python` and `system`, or fails with what is wrong with the Python that comes nearest.
choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        python=$PYTHON
        examine "$python"
        [ -z "$problem" ] || fail "$problem"
        return
    fi
    told=
    # A .venv that is done stays with its Python, whatever was installed since.
    own=
    ! is_made_of "$(identity $venv/bin/python)" || own=$venv/bin/python
    for python in $own python3 python3.12 python3.11 python3.10; do
        examine "$python"
        [ -n "$problem" ] || return 0
        case $problem in
            *' cannot make '*) told=$problem ;;
            *) told=${told:-$problem} ;;
        esac
    done
    fail "$told"
}

make_venv() {
    echo "Setting up $venv with $python ($system): minutes, once."
    # What says that this folder is ours goes last, in case this is interrupted.
    [ ! -e $venv ] || find $venv -mindepth 1 ! -name made-by-make -delete
    mkdir -p $venv
    echo 'This folder is deleted and made anew by make.' > $venv/made-by-make
    "$python" -m venv $venv
}

pip_install() {
    # Lines of progress on a terminal; errors alone elsewhere.
    [ -t 1 ] || set -- --quiet "$@"
    set -- --disable-pip-version-check --no-input --constraint constraints.txt "$@"
    PYTHONWARNINGS=ignore $venv/bin/python -m pip install "$@"
}

install_all_but_horovod() {
    # The project is built with the pinned setuptools of .venv, and not with another one that pip would fetch for it.
    # setup.cfg says why tf_keras comes by itself.
    pip_install --upgrade pip setuptools wheel &&
        pip_install --no-build-isolation --editable '.[serve,test]' &&
        pip_install --no-deps tf_keras
}

# Whether one of the compilers $2... makes a program of language $1.
compiles() {
    language=$1
    shift
    for compiler in "$@"; do
        echo 'int main(void) { return 0; }' | "$compiler" -x "$language" -o $venv/compiled - 2>/dev/null || continue
        rm $venv/compiled
        return 0
    done
    return 1
}

has_compilers() {
    # shellcheck disable=SC2086
    compiles c ${CC:-cc gcc clang} && compiles c++ ${CXX:-c++ g++ clang++}
}

# With Gloo, its own way for processes to talk, and without MPI. Gloo needs CMake before 4, which comes from the
# registry too. Without --no-cache-dir pip would take a Horovod that was compiled for another TensorFlow; without
# MAKEFLAGS Horovod runs eight compilers at once, each of a gigabyte, however small the machine.
build_horovod() (
    export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1
    export HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 PATH="$PWD/$venv/bin:$PATH"
    MAKEFLAGS=-j$(getconf _NPROCESSORS_ONLN)
    export MAKEFLAGS
    pip_install cmake && pip_install --no-build-isolation --no-cache-dir horovod
)

# Writes what .venv (or Horovod in it) was made from, $2, as file $1 in one step.
mark() {
    printf '%s\n' "$2" > "$1.new"
    mv "$1.new" "$1"
}

set_up() {
    wanted=$(printf '%s\n' "$PWD" "$system" && cksum setup.cfg pyproject.toml constraints.txt tools/setup_venv.sh)
    if is_made_of "$system"; then
        [ "$(cat $venv/ready)" != "$wanted" ] || return 0
        echo "Bringing $venv up to date."
    else
        make_venv
    fi
    rm -f $venv/ready
    install_all_but_horovod || fail "Set-up stopped, because pip could not install what its message above names:\
 see to that (network? disk?), then run make again; it starts anew."
    mark $venv/ready "$wanted"
}

set_up_horovod() {
    wanted=$(grep -E '^(horovod|tensorflow|tensorflow-cpu)==' constraints.txt)
    [ "$(cat $venv/horovod 2>/dev/null)" != "$wanted" ] || return 0
    rm -rf $venv/horovod $venv/lib/python*/site-packages/horovod*
    reason=
    case $PWD in
        *[[:space:]]*)
            # Its CMake files do not quote TensorFlow's folder.
            reason='it does not compile where the path of .venv has a space'
            remedy='move this clone to another folder' ;;
        *)
            has_compilers || reason='no C++ compiler works here'
            remedy='install g++ (Debian and Ubuntu: apt-get install g++)' ;;
    esac
    if [ -n "$reason" ]; then
        echo "Horovod was left out, because $reason, and all else is set up: to add it, $remedy, then run make again."
        return
    fi
    echo "Building Horovod: about 2 minutes, once (log: $venv/horovod.log)."
    if ! build_horovod > $venv/horovod.log 2>&1; then
        grep -i -m 3 'error:' $venv/horovod.log >&2 || true
        fail "Horovod could not be built, all but Horovod is set up: see to what $PWD/$venv/horovod.log says,\
 then run make again, or go without it: make HOROVOD=no and the target."
    fi
    mark $venv/horovod "$wanted"
}

[ ! -e $venv ] || [ -e $venv/made-by-make ] || fail \
    "$PWD/$venv was not made by make, so it is left as it is: rename or delete it, then run make again."
choose_python
set_up
[ "${HOROVOD:-yes}" = no ] || set_up_horovod
