#!/bin/bash
# make install into a staging directory, whatever its name: what is there works from
# there, the library's example links by pkg-config, and uninstall leaves nothing.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
cd "$TOP" || exit 1
D=$T/stage P=/opt/bt
mk() { make BUILD="$BUILD" SAN="$SAN" DESTDIR="$D" PREFIX=$P "$@" >"$T/make.log" 2>&1; }

mk install || fail "make install: $(tail -n 5 "$T/make.log")"
for f in sbin/blktapctrl sbin/tapdisk sbin/tap-ctl sbin/tap-xl bin/tap-io \
		lib/libtapring.a lib/libtapring.so lib/libtapring.so.1 \
		include/tapring.h include/tapring_proto.h lib/pkgconfig/tapring.pc \
		share/man/man8/tapdisk.8 share/man/man8/blktapctrl.8 \
		share/man/man8/tap-ctl.8 share/man/man1/tap-io.1 \
		etc/xen/scripts/block-blktap share/man/man7/blktap-xen.7 \
		share/man/man3/tapring.3 \
		share/bash-completion/completions/tap-ctl; do
	[ -s "$D$P/$f" ] || fail "not installed: $f"
done
unit=$(ls "$D$P"/lib/systemd/system/*.service) || fail "no unit"
grep -q "^ExecStart=$P/sbin/blktapctrl" "$unit" || fail "$unit starts something else"
grep -q '^KillMode=process' "$unit" || fail "$unit would kill the disks"

# The installed programs, and only they.
PATH=$D$P/sbin:$D$P/bin:/usr/sbin:/usr/bin:/sbin:/bin
truncate -s 8M "$T/a.img"
start_ctl
create "aio:$T/a.img"
[ "$(readlink "/proc/$PID/exe")" = "$D$P/sbin/tapdisk" ] ||
	fail "this tapdisk runs: $(readlink "/proc/$PID/exe")"

# The example of the library, with what the .pc file says (moved to the stage).
if command -v pkg-config >/dev/null; then
	flags=$(PKG_CONFIG_PATH=$D$P/lib/pkgconfig pkg-config \
		--define-variable=prefix="$D$P" --cflags --libs tapring) ||
		fail "pkg-config"
	flags=$(echo "$flags" | sed "s,$P/\(lib\|include\),$D&,g; s,$D$D,$D,g")
	# shellcheck disable=SC2086
	${CC:-cc} ${SAN:+-fsanitize=$SAN} -o "$T/example" tools/tapring-example.c $flags ||
		fail "cannot link with: $flags"
	tap-io -m "$MINOR" -c 'write -P 1 0 512' >/dev/null || fail "tap-io"
	LD_LIBRARY_PATH=$D$P/lib "$T/example" "$RING" >"$T/sum" || fail "the example: $?"
	# 64 words of this value, times 1, 9, ... 505
	want=$(printf '8388608 bytes, sum %016x' $((0x0101010101010101 * 16192)))
	[ "$(cat "$T/sum")" = "$want" ] || fail "the example says $(cat "$T/sum"), not $want"
fi
destroy "$MINOR"
stop_ctl

mk uninstall || fail "make uninstall"
left=$(find "$D" ! -type d)
[ -z "$left" ] || fail "uninstall leaves $left"

D="$T/another stage"
mk install || fail "make install where a name has a blank: $(tail -n 5 "$T/make.log")"
[ -L "$D$P/lib/libtapring.so" ] || fail "no $D$P/lib/libtapring.so"
mk uninstall || fail "make uninstall where a name has a blank"
left=$(find "$D" ! -type d)
[ -z "$left" ] || fail "uninstall leaves $left"
