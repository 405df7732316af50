#!/bin/bash
# TIMEOUT: 400
# Whatever its tapdisk asks for, a disk gets the files that its operator named and
# what lies beside an image that may name files, and nothing else on the host.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
I=$T/img
mkdir -p "$T/modes" "$T/fake" "$I/sub/deep" "$T/base" "$T/linked"
for f in "$I/a" "$I/b" "$I/c" "$I/sub/d" "$T/secret" "$T/base/t" "$T/linked/l"; do
	truncate -s 1M "$f"
done
ln -s "$T/secret" "$I/link"
ln -s b "$I/near"
ln -s "$T" "$I/up"
ln -s "$T/base/t" "$T/base/alias"
ln -s "$I/sub/deep" "$T/linked/way"
truncate -s 1M "$I/sub/l" && ln -s /etc "$I/sub/etc"
mkfifo "$I/fifo"
cp "$BUILD/func/faketap" "$T/fake/tapdisk" || fail "faketap is not built"
start_ctl --tapdisk "$T/fake/tapdisk" --tapdisk-arg --modes \
	--tapdisk-arg "$T/modes" --image-dir "$T/base"

N=0	# the minor that comes next
# no STATUS MODE TEXT [OPTION...]: as the image is opened its tapdisk asks so.
no()
{
	local want=$1 mode=$2 text=$3
	shift 3
	[ $# -gt 0 ] || set -- -a "qcow2:$I/a"
	echo "$mode" >"$T/modes/$N"
	refuse "$want" within5 tap-ctl create "$@"
	note "$mode: $ERR"
	case $ERR in
	"tap-ctl: disk $N: cannot create "*": cannot open ${mode#*:}: "*"$text"*) ;;
	*) fail "$mode: no '$text' in: $ERR" ;;
	esac
}
# yes MODE [OPTION...]
yes()
{
	echo "$1" >"$T/modes/$N"
	shift
	[ $# -gt 0 ] || set -- -a "qcow2:$I/a"
	timeout 400 tap-ctl create -t 300 "$@" >/dev/null || fail "refused: $(cat "$T/modes/$N")"
	[ -n "${HOLD:-}" ] || destroy "$N"
}

for how in ask askrw; do
	yes "$how:$I/a"
	yes "$how:$I/b"
	yes "$how:$I/sub/d"
	yes "$how:$I//sub/../b"
	no 40 "$how:$I/link" 'symbolic link'
	no 40 "$how:$I/near" 'symbolic link'
	no 40 "$how:$I/up/secret" 'symbolic link'
	no 40 "$how:$I/sub/etc/shadow" 'symbolic link'
	no 21 "$how:$I/sub" 'it is a directory'
	no 22 "$how:$I/fifo" 'neither a regular file nor a block device'
	no 13 "$how:$I/a/" 'that of a folder'
	no 22 "$how:etc/shadow" 'want an absolute path'
done
advice='give it (tap-ctl --backing) or allow its folder (blktapctrl --image-dir)'
for path in /etc/shadow "$I/../secret" "$I/sub/../../secret" "$T/secret" \
		"$I/../../../../../../../etc/shadow" "$T/base/../secret" /dev/mem; do
	no 13 "ask:$path" "$advice"
	no 13 "askrw:$path" 'written to only in its folder'
done
no 2 "ask:$I/nothing" 'No such file'
if [ "$(id -u)" = 0 ] && mknod "$I/null" c 1 3 2>/dev/null &&
		mknod "$I/disk" b 7 99 2>/dev/null; then
	no 22 "ask:$I/null" 'neither'
	no 13 "askrw:$I/disk" 'a block device'
fi

# Two hundred images of a thousand extents fit, and there is an end to it.
yes "ask:$I/b times:1500"
echo "ask:$I/b times:5000" >"$T/modes/$N"
refuse any timeout 400 tap-ctl create -t 300 -a "qcow2:$I/a"	# thousands of opens
wait_for 5 grep -q 'too many files' "$T/ctl.log" || fail "no end to files: $ERR"
sleep 0.3

# Raw images and those without a file name nothing.
no 13 "ask:$I/b" 'not a file of this disk' -a "aio:$I/a"
no 13 "ask:$T/base/t" 'not a file of this disk' -a ram:1M
# A read-only disk is that.
no 30 "askrw:$I/b" 'the disk is read-only' -R -a "qcow2:$I/a"
yes "ask:$I/b" -R -a "qcow2:$I/a"

# Where links are on the way to the folder itself, ".." is not taken for a text.
no 13 "ask:$T/linked/way/../l" 'may mean two files' -a "qcow2:$T/linked/l2"

# The daemon's folder: to read.
yes "ask:$T/base/t"
yes "ask:$I/../base/t"
no 13 "askrw:$T/base/t" 'written to only'
no 40 "ask:$T/base/alias" 'symbolic link'

# What another disk has is not written to, and not read while that one writes.
HOLD=1 yes "askrw:$I/c" -a "aio:$I/c"
N=1
no 16 "askrw:$I/c" ''
no 16 "ask:$I/c" ''
HOLD=1 yes "ask:$I/b" -R -a "aio:$I/b"
N=2
no 16 "askrw:$I/b" ''
yes "ask:$I/b"
stop_ctl
