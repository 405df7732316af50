#!/bin/bash
# TIMEOUT: 60
# Files given below an image: they and only they are opened, to read; the list
# tells of them as before, JSON names them, and a new daemon still knows them.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
mkdir "$T/modes" "$T/fake" "$T/img" "$T/far"
truncate -s 1M "$T/img/a" "$T/img/b" "$T/far/c" "$T/far/d"
cp "$BUILD/func/faketap" "$T/fake/tapdisk" || fail "faketap is not built"
fake="--tapdisk $T/fake/tapdisk --tapdisk-arg --modes --tapdisk-arg $T/modes"
# shellcheck disable=SC2086
start_ctl $fake
chain=(-a "qcow2:$T/img/a" --backing "qcow2:$T/far/c" --backing "aio:$T/far/d")

for ok in "askrw:$T/img/a" "ask:$T/far/c" "ask:$T/far/d"; do
	echo "$ok" >"$T/modes/0"
	within5 tap-ctl create "${chain[@]}" >/dev/null || fail "$ok is refused"
	destroy 0
done
while read -r mode text; do
	echo "$mode" >"$T/modes/0"
	refuse any within5 tap-ctl create "${chain[@]}"
	case $ERR in
	*"cannot create qcow2:$T/img/a (2 below): cannot open ${mode#*:}: $text"*) ;;
	*) fail "$mode: no '$text' in: $ERR" ;;
	esac
done <<END
askrw:$T/far/c what is below an image is never written to
askrw:$T/far/d what is below an image is never written to
ask:$T/img/b it is not among the files that were given
askrw:$T/img/b it is not among the files that were given
ask:/etc/shadow it is not among the files that were given
END
echo "ask:$T/img/b" >"$T/modes/0"
refuse 13 tap-ctl create -a "qcow2:$T/img/a" --backing none
case $ERR in *"qcow2:$T/img/a (none below)"*) ;; *) fail "$ERR" ;; esac
rm "$T/modes/0"

tap-ctl create "${chain[@]}" >/dev/null || fail "create"
tap-ctl create -a "qcow2:$T/img/b" --backing none >/dev/null || fail "create"
told()
{
	local pid
	pid=$(disk_json 0 | jq .pid)
	[ "$(tap-ctl list -m 0)" = "pid=$pid minor=0 state=0 args=qcow2:$T/img/a" ] ||
		fail "$1: $(tap-ctl list -m 0)"
	[ "$(tap-ctl list -f "$T/img/a" -t qcow2)" = "$(tap-ctl list -m 0)" ] ||
		fail "$1: not found by its file"
	[ "$(disk_json 0 | jq -c '[.type, .path, .args, .backing]')" = \
		"[\"qcow2\",\"$T/img/a\",\"qcow2:$T/img/a\",$2]" ] ||
		fail "$1: $(disk_json 0)"
	[ "$(disk_json 1 | jq -c .backing)" = '[]' ] || fail "$1: $(disk_json 1)"
}
told 'at first' "[\"qcow2:$T/far/c\",\"aio:$T/far/d\"]"
kill_ctl KILL
# shellcheck disable=SC2086
start_ctl $fake
told 'after a restart' "[\"qcow2:$T/far/c\",\"aio:$T/far/d\"]"
tap-ctl pause -m 0 && tap-ctl unpause -m 0 || fail "unpause as before"
told 'after a pause' "[\"qcow2:$T/far/c\",\"aio:$T/far/d\"]"
tap-ctl pause -m 0
tap-ctl unpause -m 0 -a "qcow2:$T/img/a" --backing "aio:$T/far/d" || fail "unpause"
told 'on another chain' "[\"aio:$T/far/d\"]"
grep -q 'create qcow2:.*/img/a (2 below): done' "$T/ctl.log" || fail "the log"
stop_ctl

# A raw image has nothing below it, which its tapdisk says itself.
start_ctl
refuse 22 tap-ctl create -a "aio:$T/img/a" --backing "aio:$T/img/b"
case $ERR in *"'aio' has no backing file") ;; *) fail "$ERR" ;; esac
refuse 2 tap-ctl create -a "bogus:$T/img/a" --backing "aio:$T/img/b"
case $ERR in *"'bogus'"*'tapdisk --features'*) ;; *) fail "$ERR" ;; esac
create "aio:$T/img/a" --backing none
stop_ctl
refuse 1 within5 tapdisk --foreground -m 0 -a "aio:$T/img/a" --backing "aio:$T/img/b"
case $ERR in *"(1 below): 'aio' has no backing file") ;; *) fail "$ERR" ;; esac
for bad in none none,x ''; do
	within5 tapdisk --foreground -m 0 -a "aio:$T/img/a" --backing none --backing "$bad" \
		2>"$T/err"
	[ $? = 2 ] || fail "--backing none $bad: $(cat "$T/err")"
done
