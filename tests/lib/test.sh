# test.sh - what functional tests share.  Source it first:
#
#	. "$(dirname "$0")/../lib/test.sh"		(in tests/func, tests/interop)
#
# Works in dash and bash.  Gives: T, an empty directory that goes away with the
# test; RUN, the run directory of the daemon under test; and the functions
# below.  Everything started through them is stopped when the test ends, however
# it ends.  Run by hand: BUILD=build tests/func/NAME.sh; KEEP=1 keeps T.
# shellcheck shell=sh disable=SC3043

set -u
TOP=$(cd "$(dirname "$0")" && while [ ! -e tests/lib/test.sh ] && [ "$PWD" != / ]
	do cd ..; done; pwd)
BUILD=${BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$TOP/$BUILD ;; esac
BIN=${BIN:-$BUILD/bin}
SAN=${SAN:-}
# What waits has that much longer than it says: machines are busy.
_slow=4; [ -z "$SAN" ] || _slow=12
PATH=$BIN:$PATH
export PATH BUILD BIN
unset BLKTAP_RUNDIR

T=$(mktemp -d "${TMPDIR:-/tmp}/tap.XXXXXX") || exit 1
RUN=$T/run
export BLKTAP_RUNDIR="$RUN"
CTL_PID=
_pids=
_undo=
_why=

note() { echo "$*"; }
fail()
{
	_why="FAIL: $*"
	echo "$_why" >&2
	exit 1
}
skip()
{
	echo "SKIP: $*"
	exit 77
}

# at_exit COMMAND: run it, the last first, when the test ends.
at_exit()
{
	_undo="$1
$_undo"
}

# own PID: kill it at the end.  Only ever what this test has started: when it has ended, its
# id may be another's, so the time of its start belongs to it.
own()
{
	_started "$1"
	[ -z "$_start" ] || _pids="$_pids $1:$_start"
}
_started()
{
	local s=
	{ read -r s <"/proc/$1/stat"; } 2>/dev/null
	# shellcheck disable=SC2086
	set -- ${s##*) }
	_start=${20:-}
}
_slay()
{
	kill -KILL "$1" 2>/dev/null
	{ wait "$1"; } 2>/dev/null	# quietly
}

_cleanup()
{
	_rc=$?
	trap - EXIT HUP INT TERM
	set +e
	[ -z "$CTL_PID" ] || _slay "$CTL_PID"	# first: it would replace its tapdisks
	for _p in $(tapdisk_pids); do _slay "$_p"; done
	for _p in $_pids; do
		_started "${_p%:*}"
		[ "$_start" != "${_p#*:}" ] || _slay "${_p%:*}"
	done
	eval "$_undo"
	if grep -qsE 'Sanitizer|runtime error:|assertion' "$T/ctl.log"; then
		echo "FAIL: a daemon's own fault, see below" >&2
		grep -m 1 -A 40 -E 'Sanitizer|runtime error:|assertion' "$T/ctl.log"
		_rc=1
	fi
	if [ "$_rc" != 0 ] && [ "$_rc" != 77 ] && [ -s "$T/ctl.log" ]; then
		echo "--- blktapctrl and its tapdisks said:"
		tail -n 40 "$T/ctl.log"
		[ -z "$_why" ] || echo "$_why"	# who reads the end alone sees it too
	fi
	if [ -n "${KEEP:-}" ]; then
		echo "kept: $T"
	else
		rm -rf "$T"
	fi
	exit "$_rc"
}
trap _cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

requires()
{
	for _c in "$@"; do
		command -v "$_c" >/dev/null 2>&1 || skip "needs the program $_c"
	done
}
# requires_libnbd: sets PY, the Python that has it; the first may be of another making.
requires_libnbd()
{
	for PY in python3 /usr/bin/python3; do
		"$PY" -c 'import nbd' 2>/dev/null && return
	done
	skip "needs python3-libnbd"
}
# qemu_img_luks ARGUMENTS: qemu-img create or convert to an image with LUKS.  It
# measures its own time, in an account that a young process often finds empty.
qemu_img_luks()
{
	for _try in $(seq 300); do
		qemu-img "$@" 2>"$T/luks.err" && return
		grep -q 'accurate CPU usage' "$T/luks.err" || break
	done
	cat "$T/luks.err" >&2
	return 1
}
requires_root()
{
	[ "$(id -u)" = 0 ] || skip "needs root: $*"
}
requires_no_san()
{
	[ -z "$SAN" ] || skip "not with sanitizers: $*"
}

# wait_for SECONDS COMMAND...: until it succeeds; fails when time is up, which on a
# quiet machine would be after so many.
wait_for()
{
	local end
	end=$(($(date +%s) + $1 * $_slow + 1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$end" ] || return 1
		sleep 0.05
	done
}
gone() { ! kill -0 "$1" 2>/dev/null; }
# over PID: or to be reaped (an adopted one by init, in its own time).
# All its threads: the last one gives the locks back, and the first may be a zombie then.
over() { ! grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1"/task/*/status; }

# Every tapdisk of this test's run directory, alive, by id.  (One process looks at all: one
# for each takes seconds where there are many, and what a test does next comes late.)
tapdisk_pids()
{
	LC_ALL=C grep -lsaP "^[^\\0]*tapdisk\\0(.*\\0)?--rundir\\0\\Q$RUN\\E\\0" \
		/proc/[0-9]*/cmdline | cut -d/ -f3
}

# start_ctl [OPTION...]: a blktapctrl of this test, ready when this returns.
start_ctl()
{
	# A leak checker needs system calls that the sandbox takes away.
	[ -z "$SAN" ] || set -- --tapdisk-arg --no-sandbox "$@"
	blktapctrl --foreground --rundir "$RUN" --log stderr "$@" \
		>>"$T/ctl.log" 2>&1 &
	CTL_PID=$!
	wait_for 10 ctl_ready || fail "blktapctrl is not ready after 10 s"
}
ctl_ready()
{
	kill -0 "$CTL_PID" 2>/dev/null ||
		fail "blktapctrl ended at start: $(tail -n 3 "$T/ctl.log")"
	[ -S "$RUN/ctl.sock" ] && tap-ctl list >/dev/null 2>&1
}

# stop_ctl: close all disks, end the daemon, and look for what it left.
stop_ctl()
{
	local pid=$CTL_PID
	tap-ctl shutdown || fail "tap-ctl shutdown: status $?"
	wait_for 10 gone "$pid" || fail "blktapctrl still runs after shutdown"
	wait "$pid" || fail "blktapctrl ended with status $?"
	CTL_PID=
	[ -z "$(tapdisk_pids)" ] || fail "tapdisks left: $(tapdisk_pids)"
	rundir_empty || fail "left in RUNDIR: $(ls -A "$RUN")"
}
rundir_empty() { [ ! -d "$RUN" ] || [ -z "$(ls -A "$RUN")" ]; }

# kill_ctl [SIGNAL]: end the daemon alone.
kill_ctl()
{
	kill "-${1:-TERM}" "$CTL_PID" || fail "blktapctrl is not there"
	wait_for 5 gone "$CTL_PID" || fail "blktapctrl did not end"
	wait "$CTL_PID" 2>/dev/null
	CTL_PID=
}

# create SPEC [OPTION...]: sets MINOR, PID, NBD (socket), RING (socket), URI.
create()
{
	local spec=$1 json
	shift
	json=$(tap-ctl create -a "$spec" "$@" --json) ||
		fail "tap-ctl create -a $spec: status $?"
	MINOR=$(json_get minor "$json") || exit 1
	PID=$(json_get pid "$json") || exit 1
	NBD=$(json_get nbd "$json") || exit 1
	RING=$(json_get ring "$json") || exit 1
	URI="nbd+unix:///?socket=$NBD"
}
destroy() { tap-ctl destroy -m "$1" || fail "tap-ctl destroy -m $1: $?"; }

# json_get MEMBER OBJECT
json_get()
{
	printf '%s' "$2" | jq -re ".$1" || fail "no member '$1' in: $2"
}
# disk_json MINOR: its object in `tap-ctl list --json`
disk_json()
{
	tap-ctl list --json | jq -ce ".[] | select(.minor == $1)"
}
disk_state() { disk_json "$1" | jq -r .state; }
# pid_of MINOR: its tapdisk; 0: it has none now.  Never give that to kill.
pid_of() { disk_json "$1" | jq -r '.pid // 0'; }
# taken_over MINOR PID [STATE]: there is another tapdisk in the place of PID, and the
# disk is in that state again ("running"; a paused one is so also while there is none).
taken_over()
{
	disk_json "$1" | jq -e --argjson old "$2" --arg state "${3:-running}" \
		'.pid > 0 and .pid != $old and .state == $state' >/dev/null
}

# refuse STATUS COMMAND...: it must fail with STATUS (or "any") and one line on
# stderr, kept in ERR.
refuse()
{
	local want=$1 rc
	shift
	"$@" >"$T/refuse.out" 2>"$T/refuse.err"
	rc=$?
	ERR=$(cat "$T/refuse.err")
	[ $rc != 0 ] || fail "succeeded, but should not: $*"
	[ "$want" = any ] || [ $rc = "$want" ] ||
		fail "status $rc, not $want: $*: $ERR"
	[ "$(wc -l <"$T/refuse.err")" = 1 ] || fail "not one line: $*: $ERR"
}

# small_fs DIR OPTIONS: a tmpfs there until the end of the test; false: not here.
small_fs()
{
	mkdir "$1" && mount -t tmpfs -o "$2" none "$1" 2>/dev/null || return
	at_exit "wait_for 5 _unmounted '$1' || umount '$1'"
}
_unmounted() { umount "$1" 2>/dev/null; }	# who was killed may still be there

# fds PID: how many descriptors it has open.
fds() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }
# fds_at_rest PID: the same, when it has noticed that its last clients have left.  (One
# that does not sleep has something to do yet, and does not get round to it.)
fds_at_rest()
{
	local n i=0 same=0
	n=$(fds "$1")
	while [ $same -lt 5 ] && [ $i -lt 200 ]; do
		sleep 0.1
		i=$((i + 1)) same=$((same + 1))
		[ "$(fds "$1")" = "$n" ] && asleep "$1" || { same=0; n=$(fds "$1"); }
	done
	echo "$n"
}
asleep() { ! grep -qs '^State:[[:space:]]*[^S[:space:]]' "/proc/$1"/task/*/status; }
# in_flight MINOR: it works on a request.
in_flight() { tap-ctl stats -m "$1" | jq -e '.inflight > 0' >/dev/null; }

# a seed for what is random: SEED of the environment, or a new one; printed.
seed()
{
	SEED=${SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
	echo "seed $SEED"
}

# within5 COMMAND...: nothing may hang for more than 5 seconds; on a busy machine it may
# take so long.  What waits for a tapdisk that does not answer takes 10.
within5()
{
	timeout 9 "$@"
	_r=$?
	[ $_r != 124 ] || fail "took more than 9 s: $*"
	return $_r
}

# random_file FILE SIZE_MIB
random_file() { head -c "$2M" /dev/urandom >"$1"; }
# nbd_hash URI: of all that the disk holds.
nbd_hash() { timeout 300 nbdcopy "$1" - | sha256sum | cut -d' ' -f1; }
file_hash() { sha256sum <"$1" | cut -d' ' -f1; }

# fio_nbd URI OPTION...: one job against an NBD export; its output on failure.
fio_nbd()
{
	local uri=$1
	shift
	(cd "$T" && fio --name=job --ioengine=nbd --uri="$uri" --thread \
		--verify_state_save=0 --output="$T/fio.out" "$@" 2>"$T/fio.err") || {
		cat "$T/fio.err"
		grep -E 'err=|verify|fio:' "$T/fio.out" | head -n 20
		return 1
	}
}
