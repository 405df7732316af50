#!/bin/bash
# The hotplug script block-blktap with a daemon of ours and a xenstore made of files:
# every kind of target, awkward paths, read-only, two users of one image, failures
# that say why, and a removal that takes nobody else's disk.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-io
S=$T/store
mkdir -p "$T/bin" "$S"
cat >"$T/bin/xenstore-read" <<'X'
#!/bin/sh
cat "$S/$1" 2>/dev/null
X
cat >"$T/bin/xenstore-write" <<'X'
#!/bin/sh
while [ $# -gt 0 ]; do
	mkdir -p "$S/${1%/*}"
	printf '%s' "$2" >"$S/$1"
	shift 2
done
X
cat >"$T/bin/xenstore-rm" <<'X'
#!/bin/sh
rm -r "$S/$1"
X
printf '#!/bin/sh\n' >"$T/bin/logger"
chmod +x "$T"/bin/*
export S
# The script puts the system's folders first.
sed "s,^PATH=,PATH=$T/bin:$BIN:," "$TOP/tools/xen/block-blktap" >"$T/block-blktap"
start_ctl

# plug KIND DEVICE PARAMS MODE: xl's nodes, then add.
plug()
{
	D=backend/$1/7/$2
	rm -rf "${S:?}/$D"
	mkdir -p "$S/$D"
	printf '%s' "$3" >"$S/$D/params"
	printf '%s' "$4" >"$S/$D/mode"
	XENBUS_PATH=$D bash "$T/block-blktap" add 2>"$T/err"
}
unplug() { XENBUS_PATH=$D bash "$T/block-blktap" remove || fail "remove of $D"; }
get() { cat "$S/$D/$1" 2>/dev/null; }
# served SPEC: the disk of the nodes is this one.
served()
{
	[ "$(get hotplug-status)" = connected ] || fail "$1: $(get hotplug-status) $(get hotplug-error)"
	[ "$(get physical-device-path)" = "/run/blktap-control/nbd$(get pid).$(get minor)" ] ||
		fail "$1: $(get physical-device-path)"
	tap-ctl list --json | jq -e --arg s "$1" --argjson p "$(get pid)" \
		'any(.[]; .pid == $p and (.type + ":" + .path == $s or .args == $s or .image == $s))' \
		>/dev/null || fail "no disk $1: $(tap-ctl list --json)"
}

odd="$T/a b, c:d.img"
truncate -s 4M "$T/a.img" "$odd"
tap-img create -f qcow2 "$T/q:1.qcow2" 4M >/dev/null || fail "tap-img"
plug vbd 51712 "aio:$T/a.img" w || fail "add: $(get hotplug-error)"
served "aio:$T/a.img"
unplug
[ -z "$(tap-ctl list)" ] || fail "a disk is left: $(tap-ctl list)"
plug vbd3 51712 "aio:$T/a.img" w || fail "backendtype=tap, /path: $(get hotplug-error)"
served "aio:$T/a.img"
unplug
plug vbd3 51712 "aio:aio:$T/a.img" w || fail "backendtype=tap, aio:/path: $(get hotplug-error)"
served "aio:$T/a.img"
unplug
plug vbd 51712 "$odd" w || fail "path with blanks: $(get hotplug-error)"
served "aio:$odd"
unplug
plug vbd3 51712 "aio:direct=off,qcow2:$T/q:1.qcow2" w || fail "options: $(get hotplug-error)"
served "qcow2:$T/q:1.qcow2"
unplug

# Two that read share it, one that writes does not.
plug vbd 51712 "aio:$T/a.img" r || fail "read-only: $(get hotplug-error)"
sock=$RUN/nbd$(get minor).sock
qemu-io -f raw -c 'write 0 4k' "nbd+unix:///?socket=$sock" >/dev/null 2>&1 &&
	fail "mode r, and a write was taken"
first=$D
plug vbd 51728 "aio:$T/a.img" r || fail "two readers: $(get hotplug-error)"
second=$D
if plug vbd 51744 "aio:$T/a.img" w; then fail "a writer beside readers"; fi
[ "$(get hotplug-status)" = error ] || fail "status after a failure: $(get hotplug-status)"
grep -q "$T/a.img" "$S/$D/hotplug-error" || fail "the reason names no image: $(get hotplug-error)"
unplug
D=$first unplug
D=$second unplug

# Failures say why and leave nothing.
for p in "aio:$T/none.img" "wrong:/x" '' 'relative.img' 'speed=9,aio:/x' 'direct=maybe,aio:/x'; do
	if plug vbd 51712 "$p" w; then fail "added: $p"; fi
	[ "$(get hotplug-status)" = error ] && [ -n "$(get hotplug-error)" ] ||
		fail "no reason for $p"
	unplug
done
[ -z "$(tap-ctl list)" ] || fail "left: $(tap-ctl list)"

# The disk of a node has gone, and its number is another's now.
plug vbd 51712 "aio:$T/a.img" w || fail "add"
tap-ctl destroy -m "$(get minor)"
create "aio:$odd"
[ "$MINOR" = "$(get minor)" ] || fail "the minor is not used again"
unplug
[ "$(disk_state "$MINOR")" = running ] || fail "another's disk was taken away"
destroy "$MINOR"
XENBUS_PATH='' bash "$T/block-blktap" add 2>/dev/null
[ $? = 2 ] || fail "without XENBUS_PATH"
stop_ctl
