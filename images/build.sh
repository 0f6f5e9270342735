# Build both images: `make images BASE=docker.io/library/python:3.11-slim-bookworm@sha256:…`.
#
#   BASE        the build stage's image, with its digest (UNPINNED=1 allows one without)
#   ARCH        amd64 or arm64; default: this machine's
#   TAG         default: the version
#   REGISTRY    default: registry.example
#   PYTHON_VERSION  of BASE, for the wheels; default 3.11
#   EXTRAS      of the sidecar, files in requirements/: kafka; default: none
#   DOCKER      default: docker
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
fail() {
  echo "images: $1" >&2
  exit 2
}
[ -n "${BASE:-}" ] || fail "no BASE given: a Debian-like image with Python and pip, name@sha256:digest"
case "$BASE" in
  *@sha256:*) ;;
  *) [ "${UNPINNED:-}" = 1 ] || fail "BASE=$BASE has no digest: give name@sha256:…, or UNPINNED=1" ;;
esac
case "${ARCH:-$(uname -m)}" in
  amd64 | x86_64) arch=amd64 machine=x86_64 ;;
  arm64 | aarch64) arch=arm64 machine=aarch64 ;;
  *) fail "ARCH=${ARCH:-$(uname -m)} is neither amd64 nor arm64" ;;
esac
version=$($python -c 'import contract; print(contract.VERSION)')
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
${DOCKER:-docker} version >/dev/null 2>&1 || fail "'${DOCKER:-docker}' does not answer: is Docker running?"

make -s mirror-all
mkdir -p build/images
# The C library of ten years ago, so that the encoder loads on any base.
CC="$(pwd)/$python -m ziglang cc" $python -m sidecar.build_encoder \
  --target "build/images/encode-$arch.so" -- -target "$machine-linux-gnu.2.28" -s
for name in sidecar webhook; do
  requirements="-r requirements/$name.txt"
  if [ "$name" = sidecar ]; then
    for extra in ${EXTRAS:-}; do
      [ -f "requirements/$extra.txt" ] || fail "EXTRAS=$EXTRAS: there is no requirements/$extra.txt"
      requirements="$requirements -r requirements/$extra.txt"
    done
  fi
  rm -rf "build/images/$name"
  $python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
    --only-binary :all: --python-version "${PYTHON_VERSION:-3.11}" --implementation cp \
    --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" \
    --platform "manylinux2014_$machine" --platform any \
    --dest "build/images/$name" $requirements
  ${DOCKER:-docker} build --quiet --network=none --platform "linux/$arch" \
    --build-arg BASE="$BASE" --build-arg TARGETARCH="$arch" --build-arg SOURCE_DATE_EPOCH="$epoch" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg EXTRAS="${EXTRAS:-}" \
    -t "${REGISTRY:-registry.example}/sidetail-$name:${TAG:-$version}" -f "Dockerfile.$name" . >/dev/null
  echo "built ${REGISTRY:-registry.example}/sidetail-$name:${TAG:-$version} ($arch)"
done
