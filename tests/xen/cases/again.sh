# The same disk attached and detached again and again, beside another one that is
# under load all the time: that sees none of it; and descriptors, processes, ports,
# and the grants and event channels that Xen counts are as many at the end as at the
# beginning.
# SHORT: 4.17
# TIMEOUT: 900
needs_xen_ring
# Xen's own tables, of all domains: what is granted and in use, and what is bound.
# (They are in its log when the keys have been pressed.)
xen_has()
{
	xl dmesg -c >/dev/null
	xl debug-keys g && xl debug-keys e || fail "debug-keys"
	xl dmesg -c | awk '/\[0x[0-9a-f]*\] *[0-9]/ { g++ } /d=[0-9]+ p=[0-9]+/ { e++ }
		END { print "grants", g + 0, "channels", e + 0 }'
}
count()
{
	echo "fds $(ls /proc/$(ctl_pid)/fd | wc -l) tapdisks $(tapdisks | wc -w)" \
		"backends $(backends | wc -l)" \
		"ports $(lsevtchn "$DOM" 2>/dev/null | grep -c Interdomain) $(xen_has)"
}
# The same, when it has noticed who has left: as it has been for a second.
count_at_rest()
{
	local now last='' i
	for i in $(seq 60); do
		now=$(count)
		[ "$now" != "$last" ] || break
		last=$now
		sleep 1
	done
	echo "$now"
}
as_before() { [ "$(count)" = "$begin" ]; }
once()
{
	attach xvdb "aio:$T/a.img"
	must "guestio write /dev/xvdb $1"
	must "guestio verify /dev/xvdb $1"
	detach xvdb
}
rest() { [ -z "$(tapdisks)" ]; }
truncate -s 1M "$T/a.img"
truncate -s 4M "$T/b.img"
guest
start_ctl
once 1
wait_for 10 rest || fail "a tapdisk stays"
begin=$(count_at_rest)
attach xvdc "aio:$T/b.img"
must "load_begin /dev/xvdc 100000 3"
with=$(xen_has)
times=4
[ -z "$FULL" ] || times=20
for i in $(seq 2 "$times"); do once "$i"; done
must load_on
must load_end
detach xvdc
wait_for 10 rest || fail "a tapdisk stays"
wait_for 20 as_before || fail "first $begin, then $(count)"
# (the tables are read right: a disk that is there is in them)
[ "$with" != "${begin#*ports * }" ] || fail "with a disk and without, Xen has $with"
# what the guest has granted is its own to know: nothing may hang in deferral
must '! dmesg | grep -i "deferring.*grant\|still in use"'
must calm
echo "NOTE: $begin; with a disk $with"
stop_ctl
