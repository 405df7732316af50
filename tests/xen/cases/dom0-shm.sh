# A disk of ours on this kernel, used from dom0 itself through the shared-memory
# ring: the daemon, tapdisk's sandbox and libaio work here at all.
# SHORT: 4.17
truncate -s 8M "$T/a.img"
start_ctl
create "aio:$T/a.img"
tap-io -m "$MINOR" -c 'write -P 0x5a 0 1M' -c flush -c 'read -P 0x5a 0 1M' \
	-c 'discard 64k 64k' -c 'read -P 0 64k 64k' || fail "tap-io"
tap-ctl destroy -m "$MINOR" || fail "destroy"
[ "$(dd if="$T/a.img" bs=4k count=1 2>/dev/null | tr -d '\132' | wc -c)" = 0 ] ||
	fail "the file has not what was written"
stop_ctl
