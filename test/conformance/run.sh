#!/usr/bin/env bash
# Tests a farpool server from plain Python stubs, which it generates from the .proto files: stubs of any language can do
# the same. Needs python3 (3.10 or newer) with venv. Builds the server if needed. Passes its arguments to pytest:
#     test/conformance/run.sh -k map -x
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

die() {
  printf 'conformance: %s\n' "$*" >&2
  exit 1
}

command -v node >/dev/null || die 'node is missing; install Node 20.19 or newer'
command -v python3 >/dev/null || die 'python3 is missing; install it (Debian, Ubuntu: apt-get install python3 python3-venv)'
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  die "$(python3 --version) is too old for the pinned packages; install Python 3.10 or newer"
[[ -d $root/node_modules ]] || die 'the npm packages are missing; run npm ci first'
[[ -f $root/dist/cli/main.js ]] || (cd "$root" && npm run build)

# The copy of requirements.txt in the environment marks a complete installation.
venv=$root/.venv
python=$venv/bin/python
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt" || ! "$python" -c 'import grpc, pytest' 2>/dev/null; then
  python3 -c 'import venv, ensurepip' 2>/dev/null ||
    die 'python3 cannot make a virtual environment; install its venv module (Debian, Ubuntu: apt-get install python3-venv)'
  python3 -m venv --clear "$venv"
  "$python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/requirements.txt"
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/stubs"
# The Python code of google/rpc comes from googleapis-common-protos; protoc needs proto/google only for the import.
"$python" -m grpc_tools.protoc --proto_path="$root/proto" --python_out="$scratch/stubs" --grpc_python_out="$scratch/stubs" \
  "$root"/proto/farpool/v1/*.proto

# Leave no files in the repository: no byte code, no cache; temporary files go beside the stubs.
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$scratch/stubs
cd "$here"
"$python" -m pytest -p no:cacheprovider --rootdir="$here" --basetemp="$scratch/files" "$@"
