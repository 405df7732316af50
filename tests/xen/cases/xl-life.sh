# XEN: 4.20
# A guest of xl's lives on our disk: paused and unpaused, saved and restored under a
# load that does not notice, rebooted in the middle of one, the daemon restarted in between, shut down by
# itself; each time its disk comes again, and at the end nothing is left.
# TIMEOUT: 600
needs_xen_ring
truncate -s 8M "$T/a.img"
start_ctl
guest_config x "vdev=xvda,backendtype=tap,format=raw,access=rw,target=$T/a.img" >x.cfg
G=x
create_guest x xl create -q x.cfg
must "disk xvda && guestio write /dev/xvda 7"

must "load_begin /dev/xvda 600 4"
xl pause x && sleep 2 && xl unpause x || fail "pause"
must load_on
xl save x "$T/x.save" || fail "xl save: status $?"
wait_for 20 nothing_left || fail "after save: $(tap-ctl list) $(backends)"
kill -TERM "$(ctl_pid)"
wait_for 10 no_ctl || fail "the daemon stays"
start_ctl
xl restore "$T/x.save" || fail "xl restore: status $?"
rm "$T/x.save"
DOM=$(xl domid x)
must load_on
must load_end
must calm

# It boots again, as another domain; its disk has what it had.
must "guestio write /dev/xvda 9"
must "while guestio write /dev/xvda 9; do :; done & sleep 2"
old=$DOM boots=$(grep -ac '^DONE boot' "$CONSOLES/guest-x.log")
send "reboot -f"
up() { [ "$(grep -ac '^DONE boot' "$CONSOLES/guest-x.log")" -gt "$boots" ]; }
wait_for 120 up || fail "it does not come up again: $(xl list)"
DOM=$(xl domid x)
[ "$DOM" != "$old" ] || fail "it is the same domain"
must "disk xvda && guestio verify /dev/xvda 9"

send "poweroff -f"
no_guest() { ! xl domid x >/dev/null 2>&1; }
wait_for 60 no_guest || fail "it does not end: $(xl list)"
wait_for 20 nothing_left || fail "left: $(tap-ctl list) $(backends)"
stop_ctl
