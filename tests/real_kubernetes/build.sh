#!/bin/sh
# Builds a real kube-apiserver 1.20.2 from Debian's source package and puts it, with Debian's etcd, where the tests
# look for both. Needs Debian 12 with gcc, jq, make, patch, dpkg-dev and the archive; no root, no installed package
# and no change to the machine's own apt: lists, compiler and tools go into the build folder. About seven minutes of
# processor time and 4 GB, once.
#
#     tests/real_kubernetes/build.sh [BUILD_FOLDER]
set -eu

cached=${XDG_CACHE_HOME:-$HOME/.cache}/catchment/kube-apiserver-1.20.2
binary=${CATCHMENT_TEST_KUBE_APISERVER:-$cached/kube-apiserver}
build=${1:-$(mktemp -d)}
mkdir -p "$build/apt/lists/partial" "$build/apt/cache/archives/partial" "$(dirname "$binary")"
cd "$build"
build=$PWD

keys=/usr/share/keyrings/debian-archive-keyring.gpg
for kind in deb deb-src; do
    echo "$kind [signed-by=$keys] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} bookworm main"
done > apt/sources.list
cat > apt/apt.conf <<END
Dir::Etc::SourceList "$build/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$build/apt/lists";
Dir::Cache "$build/apt/cache";
APT::Sandbox::User "";
END
export APT_CONFIG="$build/apt/apt.conf"
apt-get -q update
apt-get -q source --download-only kubernetes
apt-get -q download golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev rsync etcd-server
unset APT_CONFIG
for package in *.deb; do
    dpkg -x "$package" root
done
rm -rf source
dpkg-source --no-check -x kubernetes_*.dsc source

# The vendored reflect2 knows the maps of Go up to 1.17: with it the server dies of its first custom resource.
reflect=source/vendor/github.com/modern-go/reflect2
rm -f "$reflect"/*.go "$reflect"/*.s
cp root/usr/share/gocode/src/github.com/modern-go/reflect2/*.go "$reflect"
cp root/usr/share/gocode/src/github.com/modern-go/reflect2/*.s "$reflect"

cat > version <<'END'
KUBE_GIT_COMMIT='faecb196815e248d3ecfb03c680a4507229c2a56'
KUBE_GIT_TREE_STATE='archive'
KUBE_GIT_VERSION='v1.20.2'
KUBE_GIT_MAJOR='1'
KUBE_GIT_MINOR='20'
END
export GOROOT="$build/root/usr/lib/go-1.19" GOCACHE="$build/gocache" CGO_ENABLED=0
export PATH="$GOROOT/bin:$build/root/usr/bin:$PATH"
make -C source WHAT=cmd/kube-apiserver GOLDFLAGS="-s -w" KUBE_GIT_VERSION_FILE="$build/version"

install -m 755 source/_output/bin/kube-apiserver "$binary"
install -m 755 root/usr/bin/etcd "$(dirname "$binary")/etcd"
"$binary" --version
echo "in $binary, with etcd beside it; $build can be removed"
