#!/usr/bin/env bash
# Make a minimal Debian image with Python and import it into this host's engine: a base for Keelway's images without any
# container registry. Usage: deploy/base-image.sh [NAME]; `--help` lists what may be set.
set -euo pipefail

suite=${BASE_SUITE:-bookworm}
name=keelway-base:$suite
packages=python3,python3-venv,ca-certificates${BASE_PACKAGES:+,$BASE_PACKAGES}

usage() {
  cat <<USAGE
usage: deploy/base-image.sh [NAME]      NAME of the image, $name unless given

  BASE_SUITE     the Debian release                                  (bookworm; it brings Python 3.11)
  BASE_MIRROR    where packages come from, e.g. your own mirror      (Debian's)
  BASE_PACKAGES  more packages, with commas between, e.g. libgomp1   (none)

Needs mmdebstrap and an engine: apt-get install mmdebstrap docker.io
USAGE
}

fail() {
  echo "base-image: $1" >&2
  exit 1
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  -*) usage >&2; exit 2 ;;
  ?*) name=$1 ;;
esac
[ $# -le 1 ] || { usage >&2; exit 2; }
command -v mmdebstrap >/dev/null || fail "mmdebstrap is missing; on Debian and Ubuntu: apt-get install mmdebstrap"
command -v docker >/dev/null || fail "docker is missing; on Debian and Ubuntu: apt-get install docker.io"
docker info >/dev/null 2>&1 || fail "no container engine answers: $(docker info 2>&1 | tail -1)"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# One time for all files, so that the same packages make the same layer, whenever it is made.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
# Nobody reads manuals in a container; what a package's licence asks for stays.
mmdebstrap --variant=minbase --include="$packages" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  "$suite" "$folder/base.tar" ${BASE_MIRROR:+"$BASE_MIRROR"} || fail "mmdebstrap could not make it; what it said stands above"
# Imported from a whole file: a stream that broke off would become an image that lacks half.
docker import --change 'CMD ["python3"]' --message "Debian $suite with $packages" "$folder/base.tar" "$name" >/dev/null
docker image inspect --format "$name {{.Size}} bytes, layer {{index .RootFS.Layers 0}}" "$name"
