#!/bin/sh
# Fetch and unpack the packages listed in $1 into the folder $2, each with its registry's own client.
set -eu
list=$(realpath "$1")
mkdir -p "$2/debian" "$2/npm" "$2/pypi"
root=$(realpath "$2")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
grep -v '^#' "$list" | while read -r registry name version; do
    case "$registry" in
    debian)
        apt-get download "$name=$version"
        dpkg -x "$name"_*.deb "$root/debian"
        ;;
    npm)
        npm pack "$name@$version" > /dev/null
        mkdir -p "$root/npm/$name"
        tar xzf "$name-$version.tgz" -C "$root/npm/$name" --strip-components=1
        ;;
    pypi)
        python3 -m pip download --no-deps --dest . "$name==$version"
        python3 -m zipfile -e "$(ls ./*.whl)" "$root/pypi"
        rm ./*.whl
        ;;
    *)
        echo "$list: unknown registry $registry" >&2
        exit 1
        ;;
    esac
done
