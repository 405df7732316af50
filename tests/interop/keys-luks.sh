#!/bin/bash
# TIMEOUT: 120
# An image that QEMU has encrypted opens with its key and no other; after a pause,
# also under a new daemon, it goes on without being given it again, and what is
# written reads back in QEMU.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-img nbdcopy
umask 077
printf 'pass word' >"$T/key"
echo other >"$T/other"
secret="secret,id=s,file=$T/key"
luks="driver=luks,key-secret=s,file.filename=$T/a.luks"
qemu_img_luks create -q -f luks --object "$secret" -o key-secret=s,iter-time=10 \
	"$T/a.luks" 4M || skip "this qemu-img cannot make luks images"
random_file "$T/plain" 4
qemu-img convert -n -f raw --object "$secret" "$T/plain" \
	--target-image-opts "$luks" || fail "qemu-img convert"

start_ctl
refuse any tap-ctl create -a "luks:$T/a.luks"
refuse any tap-ctl create -a "luks:$T/a.luks" --key-file "$T/other"
# A newline at the end of the file is no part of the key.
create "luks:$T/a.luks" --key-file "$T/other" --key-file <(echo 'pass word')
same() { [ "$(nbd_hash "$URI")" = "$(file_hash "$T/plain")" ] || fail "$1"; }
same 'at first'
tap-ctl pause -m "$MINOR" && tap-ctl unpause -m "$MINOR" || fail "unpause"
same 'after a pause'
tap-ctl pause -m "$MINOR"
kill_ctl KILL
start_ctl
tap-ctl unpause -m "$MINOR" || fail "unpause by a new daemon"
same 'under a new daemon'
tap-ctl pause -m "$MINOR"
refuse any tap-ctl unpause -m "$MINOR" --key-file "$T/other"
tap-ctl unpause -m "$MINOR" || fail "unpause after a wrong key"
random_file "$T/plain" 4
timeout 300 nbdcopy "$T/plain" "$URI" || fail "nbdcopy"
same 'what was written'
tap-ctl close -m "$MINOR"
refuse any tap-ctl open -m "$MINOR" -a "luks:$T/a.luks"
tap-ctl open -m "$MINOR" -a "luks:$T/a.luks" --key-fd 5 5<"$T/key" || fail "open"
same 'opened anew'
stop_ctl
! grep -aqF 'pass word' "$T/ctl.log" || fail "the key is in the log"
qemu-img convert -O raw --object "$secret" --image-opts "$luks" "$T/back" &&
	cmp "$T/plain" "$T/back" || fail "QEMU reads something else"
