#!/bin/bash
# Wrong input of every kind: one clear line, the documented exit code, nothing
# changed (the list is identical), nothing leaked (descriptors of the daemon,
# processes, names in RUNDIR).
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq pgrep
truncate -s 4M "$T/good.img" "$T/used.img"
mkdir "$T/dir"
mkfifo "$T/fifo"
ln -s "$T/loop" "$T/loop"
: >"$T/empty.img"
long=$(printf '%05000d' 0)
nlong=$(printf '%0300d' 0)
start_ctl
create "aio:$T/used.img"
used=$MINOR usedpid=$PID
list() { tap-ctl list; tap-ctl list --json; }
# as tapdisk_pids, in one process: it is asked after each wrong input
tapdisks() { pgrep -f "^[^ ]*tapdisk .*--rundir $RUN " | sort; }
names() { (cd "$RUN" && find . | sort); }
same()
{
	[ "$(list)" = "$list" ] || fail "$*: the list has changed: $(list)"
	[ "$(names)" = "$names" ] || fail "$*: names have changed: $(names)"
	[ "$(tapdisks)" = "$pids" ] || fail "$*: processes have changed"
	[ "$(fds "$CTL_PID")" = "$fds" ] || fail "$*: descriptors of the daemon"
	[ "$(fds "$usedpid")" = "$tdfds" ] || fail "$*: descriptors of the tapdisk"
}
settle() { fds_at_rest "$CTL_PID" >/dev/null; list=$(list) names=$(names) pids=$(tapdisks)
	fds=$(fds "$CTL_PID") tdfds=$(fds "$usedpid"); }
# wrong STATUS "PATTERN in the line" COMMAND...
wrong()
{
	local rc=$1 pattern=$2
	shift 2
	within5 true
	refuse "$rc" timeout 30 "$@"
	grep -Eiq -- "$pattern" <<<"$ERR" || fail "$*: does not say '$pattern': $ERR"
	note "$rc  $(cut -c1-150 <<<"$ERR")"
	wait_for 3 try_same || same "$@"
}
try_same() { (same) 2>/dev/null; }

settle
# The image.
wrong 2 'none\.img.*no such file' tap-ctl create -a "aio:$T/none.img"
wrong 21 'dir' tap-ctl create -a "aio:$T/dir"
wrong any 'fifo.*(regular|block)' tap-ctl create -a "aio:$T/fifo"
wrong any '(regular|block)' tap-ctl create -a aio:/dev/null
wrong 40 'loop' tap-ctl create -a "aio:$T/loop"
wrong 36 'cannot create' tap-ctl create -a "aio:/$nlong"
wrong 20 'not a directory' tap-ctl create -a "aio:$T/good.img/x"
wrong 22 'absolute path' tap-ctl create -a "aio:relative.img"
# A long name is cut where it tells least: reason and file name stay.
deep=$T$(printf '%01000d' 0 | sed 's/.\{100\}/\/&/g')
wrong 2 'cannot create .*/none\.img: cannot open .*/none\.img: no such file' \
	tap-ctl create -a "aio:$deep/none.img"
mkdir -p "$deep"
wrong 21 'directory$' tap-ctl create -a "aio:$deep"
rm -r "$deep"
# The name.
wrong 2 'bogus' tap-ctl create -a "bogus:$T/good.img"
wrong 22 'cannot create' tap-ctl create -a aio:
wrong 22 'cannot create' tap-ctl create -a "$T/good.img"
wrong 22 'cannot create' tap-ctl create -a ''
wrong 22 'cannot create' tap-ctl create -a :
wrong 22 'cannot create' tap-ctl create -a "delay:bogus=1|aio:$T/good.img"
wrong 22 'cannot create' tap-ctl create -a 'error:op=read|'
wrong 22 'cannot create' tap-ctl create -a ram:lots
wrong 36 'too many' tap-ctl create -a "aio:/$long"
# A second writer; a second reader of what is written.
wrong 16 'another program' tap-ctl create -a "aio:$T/used.img"
wrong 16 'another program' tap-ctl create -a "file:$T/dir/../used.img"
wrong 16 'another program' tap-ctl create -R -a "aio:$T/used.img"
# The command line.
wrong 22 "unknown verb 'bogus'" tap-ctl bogus
wrong 22 'unknown option' tap-ctl pause -z
wrong 22 'bad option|unknown' tap-ctl pause --zzz
wrong 22 'needs a value' tap-ctl pause -m
wrong 22 'missing' tap-ctl pause
wrong 22 'not a minor' tap-ctl destroy -m 16384
wrong 22 'not a minor' tap-ctl destroy -m -1
wrong 22 'not a minor' tap-ctl destroy -m "$used "
wrong 22 'not a pid' tap-ctl destroy -m "$used" -p 0x1
wrong 22 'too much' tap-ctl check now
wrong 22 'run directory' tap-ctl --rundir not/absolute list
wrong 22 'run directory' env BLKTAP_RUNDIR= tap-ctl list
wrong 36 'run directory' tap-ctl --rundir "/$nlong" list
wrong 95 'not supported' tap-ctl create -a "aio:$T/good.img" -2 x
wrong 111 'not running' tap-ctl --rundir "$T" list
# The disk and its state.
for v in destroy free detach close pause unpause stats info resize; do
	wrong 19 'disk 77' tap-ctl $v -m 77
done
wrong 19 'disk 77' tap-ctl open -m 77 -a "aio:$T/good.img"
wrong 22 'cannot attach' tap-ctl attach -m 77 -p "$usedpid"
wrong 19 'cannot attach' tap-ctl attach -m 77 -p 1
wrong 19 "disk $used" tap-ctl pause -m "$used" -p 1
wrong any "disk $used" tap-ctl free -m "$used"
wrong 22 "disk $used.*open" tap-ctl detach -m "$used"
wrong any "disk $used" tap-ctl open -m "$used" -a "aio:$T/good.img"
wrong any "disk $used" tap-ctl unpause -m "$used"
wrong 34 "disk $used" tap-ctl resize -m "$used" 1M
wrong 22 'areas' tap-ctl debug -m "$used" bogus

# No permission: as another user, who may not even ask.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	chmod 711 "$T"
	# the program may lie where others cannot go: it is read beforehand
	exec 9<"$(command -v tap-ctl)"
	wrong 13 'permission' setpriv --reuid 65534 --regid 65534 --clear-groups \
		/proc/self/fd/9 list
	exec 9<&-
else
	chmod 0 "$T/good.img"
	wrong 13 'permission' tap-ctl create -a "aio:$T/good.img"
	chmod 600 "$T/good.img"
fi

# A paused disk that cannot go on: still paused, says why, then goes on.
tap-ctl pause -m "$used" || fail "pause"
mv "$T/used.img" "$T/away.img"
refuse 2 tap-ctl unpause -m "$used"
[ "$(disk_json "$used" | jq -c '[.state, .unpause_failed]')" = '["paused",true]' ] ||
	fail "after a failed unpause: $(disk_json "$used")"
settle
wrong 2 "disk $used" tap-ctl unpause -m "$used" -a "bogus:$T/away.img"
wrong any "disk $used" tap-ctl pause -m "$used" -p 1
mv "$T/away.img" "$T/used.img"
tap-ctl unpause -m "$used" || fail "unpause"
[ "$(disk_state "$used")" = running ] || fail "not running after unpause"

# Output that nobody can take is a failure.
settle
tap-ctl list >/dev/full 2>"$T/err"
[ $? = 28 ] || fail "a full output went unnoticed"
wrong 9 'cannot write' bash -c 'exec tap-ctl list >&-'
destroy "$used"
stop_ctl
