# The same disk attached and detached again and again: descriptors, processes,
# grants and event channels are as many at the end as at the beginning.
# TIMEOUT: 600
needs_xen_ring
count()
{
	echo "fds $(ls /proc/$(ctl_pid)/fd | wc -l) tapdisks $(tapdisks | wc -w)" \
		"backends $(backends | wc -l)" \
		"ports $(lsevtchn "$DOM" 2>/dev/null | grep -c Interdomain)"
}
once()
{
	attach xvdb "aio:$T/a.img"
	must "guestio write /dev/xvdb $1"
	must "guestio verify /dev/xvdb $1"
	detach xvdb
}
truncate -s 1M "$T/a.img"
guest
start_ctl
once 1
begin=$(count)
for i in 2 3 4 5; do once $i; done
wait_for 10 test -z "$(tapdisks)"
[ "$(count)" = "$begin" ] || fail "first $begin, then $(count)"
# what the guest has granted is its own to know: nothing may hang in deferral
must '! dmesg | grep -i "deferring.*grant\|still in use"'
stop_ctl
