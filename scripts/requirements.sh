#!/bin/sh
# Makes requirements.txt, requirements-dev.txt and requirements-build.txt again from pyproject.toml.
# Usage: scripts/requirements.sh UV [argument of `uv pip compile`, such as --upgrade or --upgrade-package NAME]
set -eu
cd "$(dirname "$0")/.."
uv=$1
shift
unset UV_FIND_LINKS UV_CONSTRAINT UV_OVERRIDE UV_BUILD_CONSTRAINT

compile() {
    output=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
        --output-file "$output" "$@"
    # Whoever installs chooses the registry: a pinned file that names one would choose for them.
    if grep -nE '://|^-|find-links|index-url' "$output" >&2; then
        echo "$output names a place (lines above); unset what the environment adds and run this again" >&2
        exit 1
    fi
}

compile requirements.txt pyproject.toml --extra cpu "$@"
compile requirements-dev.txt pyproject.toml --extra cpu --extra tune --extra dask --extra dev --constraint requirements.txt "$@"
compile requirements-build.txt --group build --constraint requirements-dev.txt "$@"
