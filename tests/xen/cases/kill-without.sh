# FULL: judges the tests
# The kill case without what it rests on: when successors find the journal empty, or
# the redo log, a guest does see it.
# TIMEOUT: 900
. /lab/cases/kill.inc
dd if=/dev/urandom of="$T/base.img" bs=64k count=128 2>/dev/null
cat >"$T/tapdisk" <<END
#!/bin/sh
for f in \$(cat "$T/wipe" 2>/dev/null); do
	n=\$(stat -c %s "\$f") && truncate -s 0 "\$f" && truncate -s "\$n" "\$f"
done
exec /usr/sbin/tapdisk "\$@"
END
chmod +x "$T/tapdisk"
start_ctl --tapdisk "$T/tapdisk"
for what in journal redo; do
	rm -f "$T/a.qcow2"
	tap-img create -q -f qcow2 -b "$T/base.img" -F raw "$T/a.qcow2" || fail "create"
	guest w
	attach xvdb "qcow2:$T/a.qcow2"
	MINOR=$(tap-ctl list | sed -n 's/.*minor=\([0-9]*\).*/\1/p')
	echo "/run/tap/$what$MINOR" >"$T/wipe"
	must "load_begin /dev/xvdb 100000 6"
	sleep 3
	lost=''
	for i in $(seq 24); do	# at times nothing is unwritten as it is killed
		pid=$(pid_of_disk)
		kill -KILL "$pid"
		wait_for 10 successor "$pid" || { lost="no successor"; break; }
		sleep "1.$((RANDOM % 10))"
		lost=$(in_guest gap) || { lost="the load: $lost"; break; }
		lost=''
	done
	# what stops, and what is wrong in the end
	if [ -z "$lost" ]; then
		lost=$(GUEST_SECONDS=60 in_guest load_end) &&
			fail "without its $what nothing is lost: why is it there?"
	fi
	echo "NOTE: without $what: $(echo "$lost" | head -n 1)"
	rm "$T/wipe"
	xl destroy w
	wait_for 30 nothing_left || { tap-ctl destroy -f -m "$MINOR" || fail "left: $(tap-ctl list) $(backends)"; }
done
stop_ctl
