# lib.sh - what dom0's init and the cases share.  bash; busybox has the rest.
#
# A case is a script that ends with status 0, or calls fail or skip.  It has T,
# an empty directory on a disk that takes O_DIRECT, and starts the daemon
# itself (start_ctl); the guest is shared by all cases of a boot (guest).
# shellcheck shell=bash disable=SC2034

XEN=$(cat /lab/xen-version)
[ ! -e /disk/settings ] || . /disk/settings	# ROUNDS
PATH=/usr/lib/xen-$XEN/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
T=/disk/t
CTL_LOG=/tmp/case/ctl.log
CONSOLES=/var/log/xen/console

note() { echo "$*"; }
fail() { echo "FAIL: $*"; exit 1; }
skip() { echo "SKIP: $*"; exit 77; }
uptime_s() { local u; read -r u _ </proc/uptime; echo "${u%.*}"; }

# load MODULE [PARAMETER...]: with what it depends on; one in the kernel is there.
load()
{
	local m name=$1
	shift
	for m in $(cat "/mods/$name.order" 2>/dev/null); do
		[ ! -d "/sys/module/$m" ] || continue
		if [ "$m" = "$name" ]; then
			insmod "/mods/$m.ko" "$@" || return
		else
			insmod "/mods/$m.ko" || return
		fi
	done
}
# What waits has that much longer than it says: machines are busy.
_slow=4
# wait_for SECONDS COMMAND...
wait_for()
{
	local end=$(($(uptime_s) + $1 * _slow + 1))
	shift
	until "$@"; do
		[ "$(uptime_s)" -lt "$end" ] || return 1
		sleep 0.1
	done
}
gone() { ! kill -0 "$1" 2>/dev/null; }

# start_xenstored and the rest of what a dom0 runs.
start_xenstored() { xenstored --pid-file /run/xen/xenstored.pid "$@"; }
# Without it xl and the programs of xenstore wait for ever.
has_xenstored() { pidof xenstored >/dev/null; }
xen_services()
{
	start_xenstored || return
	wait_for 20 xenstore-exists / || return
	xen-init-dom0 || return
	xenconsoled --log=guest --log-dir=$CONSOLES --pid-file=/run/xen/xenconsoled.pid
}

# --- daemon -----------------------------------------------------------------

ctl_pid() { pidof blktapctrl; }
tapdisks() { pidof tapdisk; }
ctl_ready() { tap-ctl check >/dev/null 2>&1; }
# start_ctl [OPTION...]: as a system starts it, with the default run directory.
start_ctl()
{
	blktapctrl --foreground --log stderr "$@" >>$CTL_LOG 2>&1 &
	wait_for 30 ctl_ready || fail "blktapctrl is not ready"
}
# The same, for disks that xl attaches: the one before 4.19 writes backend/vbd.
start_ctl_xl()
{
	case $XEN in
	4.1[0-8]) start_ctl --xen-vbd ;;
	*) start_ctl ;;
	esac
}
# stop_ctl: nothing may be left.
stop_ctl()
{
	tap-ctl shutdown || fail "tap-ctl shutdown: status $?"
	wait_for 20 no_ctl || fail "left after shutdown: $(ps | grep -E 'tapdisk|blktapctrl' | grep -v grep)"
	[ -z "$(ls -A /run/tap 2>/dev/null)" ] || fail "left in /run/tap: $(ls -A /run/tap)"
}
no_ctl() { [ -z "$(tapdisks)$(ctl_pid)" ]; }
# create SPEC [OPTION...]: sets MINOR and PID.
create()
{
	local json
	json=$(tap-ctl create -a "$@" --json) || fail "tap-ctl create -a $1"
	MINOR=$(number minor "$json") PID=$(number pid "$json")
}
# luks_image FILE: qcow2, 8 MiB, its key is "a passphrase"; QEMU's own where the host has
# it, else ours.
luks_image()
{
	if [ -e /disk/luks.qcow2 ]; then
		cp /disk/luks.qcow2 "$1"
		return
	fi
	printf 'a passphrase' >"$T/luks.key"
	tap-img create -q --object "secret,id=k,file=$T/luks.key" -f qcow2 \
		-o encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10 \
		"$1" 8M || fail "tap-img create: no encrypted image"
}
number() { echo "$2" | tr ',{}' '\n' | sed -n "s/^ *\"$1\": *\([0-9]*\).*/\1/p"; }

# --- guests -----------------------------------------------------------------

# guest_config NAME [DISK...]: an xl configuration.
# 224 MiB: a front end with 16 pages of ring keeps 64 of them for its grants.
guest_config()
{
	local name=$1 disks='' d
	shift
	for d; do disks="$disks'$d',"; done
	cat <<-END
	name = "$name"
	type = "${GUEST_TYPE:-pv}"
	kernel = "/disk/vmlinux"
	ramdisk = "/disk/domu.cpio"
	extra = "console=hvc0 quiet mitigations=off random.trust_cpu=on nokaslr cryptomgr.notests audit=0 ${GUEST_ARGS:-}"
	memory = ${GUEST_MEMORY:-224}
	vcpus = ${GUEST_VCPUS:-2}
	disk = [ $disks ]
	on_crash = "destroy"
	END
}
# boots NAME [SECONDS]: whether it comes to listen at its console.  A kernel may die
# before: the emulator's processors see each other's changes of code late.
boots()
{
	local end=$(($(uptime_s) + ${2:-120} * _slow))
	until grep -aqs '^DONE boot' "$CONSOLES/guest-$1.log"; do
		[ "$(uptime_s)" -lt $end ] && xl domid "$1" >/dev/null 2>&1 || return
		sleep 0.2
	done
}
# await NAME: its domain id in DOM, once it listens at its console.
await()
{
	DOM=$(xl domid "$1") || fail "no guest $1"
	wait_for "${2:-120}" grep -aqs '^DONE boot' "$CONSOLES/guest-$1.log" ||
		fail "guest $1 does not boot: $(tail -n 3 "$CONSOLES/guest-$1.log")"
	ln -sf "$CONSOLES/guest-$1.log" "/run/lab/$1.say"
}
# guest [NAME]: the guest without disks that cases share; sets DOM.
guest()
{
	local name=${1:-g}
	G=$name
	if DOM=$(xl domid "$name" 2>/dev/null); then
		if [ "${GUEST_ARGS:-}" = "$(cat "/run/lab/$name.args")" ]; then return; fi
		xl destroy "$name"
	fi
	guest_config "$name" >"/tmp/$name.cfg"
	create_guest "$name" xl create -q "/tmp/$name.cfg"
	echo "${GUEST_ARGS:-}" >"/run/lab/$name.args"
}
# create_guest NAME COMMAND...: by that command, which starts it; sets DOM.
create_guest()
{
	local name=$1
	shift
	for _ in 1 2 3; do
		rm -f "$CONSOLES/guest-$name.log"
		"$@" || fail "$*: status $?"
		DOM=$(xl domid "$name" 2>/dev/null)
		boots "$name" && break
		note "guest $name died at boot: $(grep -a RIP "$CONSOLES/guest-$name.log" | head -n 1)"
		xl domid "$name" >/dev/null 2>&1 && break
		wait_for 30 diskless "$DOM" || fail "guest $name died at boot, and its disks stay"
	done
	await "$name"
}
diskless() { ! backends | grep -q "/$1/"; }
# send COMMAND: start it in guest G; its answer is for `answer'.
send()
{
	local tty
	_id=$BASHPID.$RANDOM
	_off=$(stat -c %s "$CONSOLES/guest-$G.log")
	# (one that was restored has it when xenconsoled has noticed)
	wait_for 10 xenstore-exists "/local/domain/$DOM/console/tty" &&
		tty=$(xenstore-read "/local/domain/$DOM/console/tty") || fail "guest $G has gone"
	printf '%s %s\n' "$_id" "$*" >"$tty"
}
_said() { tail -c +$((_off + 1)) "$CONSOLES/guest-$G.log" | tr -d '\r'; }
_done() { _said | grep -aq "^DONE $_id "; }
# answer [SECONDS]: print what the command said; its status.
answer()
{
	wait_for "${1:-120}" _done || fail "guest $G does not answer: $(_said | tail -n 3)"
	_said | sed "/^DONE $_id /,\$d"
	return "$(_said | sed -n "s/^DONE $_id //p")"
}
# in_guest COMMAND: run it in guest G and wait.
in_guest()
{
	send "$@"
	answer "${GUEST_SECONDS:-180}"
}
# must COMMAND: the same, and it must succeed.
must()
{
	local out
	out=$(in_guest "$@") || fail "in the guest: $*: $(echo "$out" | tail -n 2)"
	[ -z "$out" ] || echo "$out"
}
guests_end() { has_xenstored && xl list 2>/dev/null | awk 'NR > 2 { print $2 }' | while read -r d; do xl destroy "$d"; done; }

# --- disks of guests ----------------------------------------------------------

# nodes: every backend of a disk, and every tapdisk.
backends()
{
	local k
	for k in tap vbd vbd3; do
		xenstore-ls -f /local/domain/0/backend/$k 2>/dev/null | grep -E '/[0-9]+/[0-9]+ = '
	done
}
nothing_left() { [ -z "$(tap-ctl list)$(backends)" ]; }
no_guest() { ! xl domid "$1" >/dev/null 2>&1; }
# devid NAME: xvda -> 51712
devid() { local l=${1#xvd}; echo $((51712 + 16 * ($(printf %d "'$l") - 97))); }

# attach NAME SPEC [r|w] [OPTION...]: by tap-ctl, to guest G; the guest has it.
attach()
{
	local name=$1 spec=$2 mode=${3:-w}
	shift 2
	[ $# = 0 ] || shift
	tap-ctl xen-attach "$DOM" "$name" "tap:$spec" "$mode" "$@" >/dev/null ||
		fail "xen-attach $spec: status $?"
	must "disk $name"
}
detach()
{
	tap-ctl xen-detach "$DOM" "$1" || fail "xen-detach $1: status $?"
	must "nodisk $1"
}
has_xen() { tapdisk --features | grep -q '^xen vbd'; }
has_verb() { tap-ctl xen-list --help >/dev/null 2>&1; }
needs_xen_ring()
{
	has_xen || skip "tapdisk is built without Xen"
	has_verb || skip "tap-ctl has no xen-attach"
}

# --- one case -----------------------------------------------------------------

run_case()
{
	cd $T || exit 1
	# shellcheck disable=SC1090
	. "/lab/cases/$1.sh"
}
# clear_up: after a failure the next case finds a clean machine.
clear_up()
{
	guests_end
	# shellcheck disable=SC2046
	kill -KILL $(ctl_pid) $(tapdisks) 2>/dev/null
	local k
	! has_xenstored ||
		for k in tap vbd vbd3; do xenstore-rm /local/domain/0/backend/$k 2>/dev/null; done
	rm -rf /run/tap /run/blktap-control
}
