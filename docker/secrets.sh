# shellcheck shell=bash
# For docker/build.sh and docker/compile/build.sh: what a build needs of the user's package registries, as secrets of
# BuildKit, of which no layer keeps anything. In the build, docker/with_secrets gives them to a command.

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

# merge_pip_conf PATH...: one pip.conf that says of registries what these say together; the last one that has a key
# decides it. What else they say is of this machine, such as the path of a file of constraints, which no image has. Keys
# are what pip takes them for (its configuration.py), and a line that begins with a space goes on with the one before.
merge_pip_conf() {
    local path
    local -a files=()
    for path; do
        [[ ! -f $path ]] || files+=("$path")
    done
    [[ ${#files[@]} = 0 ]] || awk '
        FNR == 1 { section = key = "" }
        /^[ \t]*([#;]|\r?$)/ { next }
        /^\[/ { section = $0; sub(/^\[/, "", section); sub(/\].*/, "", section); key = ""; next }
        /^[ \t]/ && key != "" { if (key != "other") values[key] = values[key] "\n" $0; next }
        match($0, /[=:]/) {
            name = tolower(substr($0, 1, RSTART - 1))
            gsub(/^[ \t]+|[ \t]+$/, "", name)
            gsub(/_/, "-", name)
            sub(/^--/, "", name)
            key = "other"
            if (name !~ /^((extra[-_])?index[-_]url|find[-_]links|no[-_]index|trusted[-_]host|proxy|(default[-_])?timeout|retries)$/) next
            key = section SUBSEP name
            if (!(key in values)) order[++count] = key
            values[key] = substr($0, RSTART + 1)
        }
        END {
            for (i = 1; i <= count; i++) {
                split(order[i], part, SUBSEP)
                text[part[1]] = text[part[1]] part[2] " =" values[order[i]] "\n"
            }
            for (section in text) printf "[%s]\n%s", section, text[section]
        }' "${files[@]}"
}

# Writes the secrets into a folder that is gone with the script; to be called where the user is, because of relative paths.
keep_secrets() {
    secrets=$(mktemp -d)
    trap 'rm -rf "$secrets"' EXIT
    local name configs=${XDG_CONFIG_HOME:-~/.config}
    for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT PIP_RETRIES \
        http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [[ -z ${!name:-} ]] || printf '%s=%q\n' "$name" "${!name}"
    done > "$secrets/environment"
    # In pip's order: the system's, the user's, and PIP_CONFIG_FILE, beside which pip does not read the user's.
    local -a confs=(/etc/xdg/pip/pip.conf /etc/pip.conf)
    if [[ -f ${PIP_CONFIG_FILE:-} ]]; then
        confs+=("$PIP_CONFIG_FILE")
    else
        confs+=(~/.pip/pip.conf "$configs/pip/pip.conf")
    fi
    [[ ${PIP_CONFIG_FILE:-} != /dev/null ]] || confs=()
    merge_pip_conf "${confs[@]}" > "$secrets/pip_conf"
    copy_first "$secrets/certificates" "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" "${REQUESTS_CA_BUNDLE:-}"
    copy_first "$secrets/apt_conf" "${APT_CONFIG:-}"
}

# build_with_secrets WORD...: Docker's `build` of these words, with the secrets.
build_with_secrets() {
    local secret
    local -a options=()
    for secret in environment pip_conf certificates apt_conf; do
        options+=(--secret "id=$secret,src=$secrets/$secret")
    done
    DOCKER_BUILDKIT=1 "${DOCKER:-docker}" build "${options[@]}" "$@"
}
