# xenstored is killed while a guest's disk is under load, and then tapdisks are: the
# load goes on, with no more than a daemon that knows what it has connected.
# SHORT: 4.17
# LAST: nobody can start it again
. /lab/cases/kill.inc
truncate -s 8M "$T/a.img"
guest
start_ctl
attach xvdb "aio:$T/a.img"
MINOR=0
must "load_begin /dev/xvdb 100000 4"
# Without it: send asks for it each time.
tty=$(xenstore-read "/local/domain/$DOM/console/tty")
send()
{
	_id=$BASHPID.$RANDOM
	_off=$(stat -c %s "$CONSOLES/guest-$G.log")
	printf '%s %s\n' "$_id" "$*" >"$tty"
}
kill -KILL "$(pidof xenstored)"
ended() { grep -q "the connection has ended" $CTL_LOG; }
wait_for 10 ended || fail "unnoticed"
must gap >/dev/null
taken_up() { [ "$(grep -c 'vbd .* of domain .*, taken up' $CTL_LOG)" = "$1" ]; }
for i in $(seq "$ROUNDS"); do
	pid=$(pid_of_disk)
	kill -KILL "$pid" || fail "round $i: no tapdisk $pid"
	wait_for 20 successor "$pid" || fail "round $i: no successor of $pid: $(tap-ctl list)"
	wait_for 20 taken_up "$i" || fail "round $i: not taken up"
	sleep 1.2
	must gap >/dev/null
done
must load_end
must calm
[ "$(grep -c 'xenstore: connected' $CTL_LOG)" = 1 ] || fail "a connection with nobody"
stop_ctl
