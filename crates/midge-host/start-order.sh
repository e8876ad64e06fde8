#!/usr/bin/env bash
# Writes start-order.ld: the functions that a start of midge-host runs, in the order in which it comes to them. The
# linker puts them together, so that a start touches a few pages next to each other and not one here and one there.
#
# Needs qemu-user, whose emulator tells what is run, and the built guest examples. Run it from anywhere when the gate on
# page faults says that starts have become longer (tests/gates.toml); a list that is a little out of date does no harm.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
command -v qemu-x86_64 >/dev/null || { echo "qemu-x86_64 is needed: apt install qemu-user" >&2; exit 1; }
modules=guest-examples/target/midge
cargo build --release --package midge --bin midge
target/release/midge build guest-examples

# As midge-build builds it, with its names and a map of them.
cargo rustc --package midge-host --bin midge-host --profile host \
    --config 'target.x86_64-unknown-linux-gnu.rustflags=["--cfg", "getrandom_backend=\"linux_raw\"", "--cfg", "chacha20_backend=\"sse2\"", "-Csymbol-mangling-version=v0"]' \
    -- -C target-feature=+crt-static -C relocation-model=static \
    -C link-arg=-Wl,-T,crates/midge-host/start-order.ld \
    -C strip=none -C link-arg=-Wl,-Map="$work/map"
cp target/host/midge-host "$work/midge-host"

# A start by hand, and one for a server; each writes down every block of code that it runs.
cat >"$work/host" <<HOST
#!/bin/sh
exec qemu-x86_64 -cpu max -d exec,nochain -D "$work/\$1.log" "$work/midge-host" "\$@"
HOST
chmod +x "$work/host"
"$work/host" run hello --modules "$modules" --args '{"name": "order"}' </dev/null >/dev/null
target/release/midge serve --modules "$modules" --db "$work/midge.db" --listen 127.0.0.1:7899 \
    --host-program "$work/host" --log warn 2>"$work/serve.log" &
until grep -q "listens on" "$work/serve.log"; do sleep 0.1; done
target/release/midge enqueue hello --server http://127.0.0.1:7899 --args '{"name": "order"}' --wait >/dev/null
kill %1 && wait %1 || true

# Where each piece of code lies, from the map; then the pieces that were run, in order, as patterns: without the hashes
# that change with every version, and code of libraries by the file that it is in.
awk 'match($0, /:\(\.text[^)]*\)$/) && $3 != "0" { a = $1; while (length(a) < 8) a = "0" a; print a, $5 }' \
    "$work/map" | sort >"$work/pieces"
{
    echo "/* Made by start-order.sh, which says what it is. */"
    echo "SECTIONS {"
    echo "  .text.start : {"
    for start in run work; do
        sed -nE 's|^Trace .*\[[0-9a-f]+/0*([0-9a-f]+)/.*|\1|p' "$work/$start.log" | awk '!seen[$0]++'
    done | awk -v pieces="$work/pieces" '
        BEGIN { while ((getline line < pieces) > 0) { split(line, f, " "); n++; at[n] = f[1]; name[n] = f[2] } }
        {
            a = $1; while (length(a) < 8) a = "0" a
            low = 1; high = n
            while (low < high) { mid = int((low + high + 1) / 2); if (at[mid] <= a) low = mid; else high = mid - 1 }
            if (at[low] <= a && !seen[low]++) print name[low]
        }' | sed -nE '
        s|^.*/([^/]*\.a)\(([^)]*)\):\((.*)\)$|    *\1:\2(\3)|p; t
        s|^.*/(crt[^/]*\.o):\((.*)\)$|    *\1(\2)|p; t
        s|^.*:\((\.text\..*)\)$|    *(\1)|p' | sed -E 's|Cs[0-9A-Za-z]+_|Cs*_|g' | awk '!seen[$0]++'
    echo "  }"
    echo "} INSERT BEFORE .text;"
} >crates/midge-host/start-order.ld
wc -l crates/midge-host/start-order.ld
