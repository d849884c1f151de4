#!/bin/sh
# Compiles the fast path's program. For who changes it only: what comes of it is committed.
# Debian 12: apt-get install clang-14 llvm-14 libbpf-dev; CLANG and STRIP name others.
set -eu
cd "$(dirname "$0")/../src/skep/network"
source=fast_path.bpf.c
hash=$(sha256sum "$source" | cut -d' ' -f1)
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)
"${CLANG:-clang-14}" -O2 -g -Wall -Werror -target bpf "-DSOURCE_HASH=\"$hash\"" \
    "-I/usr/include/$multiarch" -fdebug-prefix-map="$PWD"=. -c "$source" -o fast_path.bpf.o
"${STRIP:-llvm-strip-14}" -g fast_path.bpf.o
