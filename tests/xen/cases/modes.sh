# What the front end can ask for, by its parameters: ring of 1 to 16 pages, 1 and 2
# queues, with and without persistent grants and indirect segments.
# TIMEOUT: 600
needs_xen_ring
truncate -s 8M "$T/a.img"
guest
start_ctl
# mode WANT-IN-FRONTEND PARAMETER...
mode()
{
	local want=$1 got
	shift
	must "rmmod xen_blkfront; load xen_blkfront $*"
	attach xvdb "aio:$T/a.img"
	got=$(xenstore-ls "/local/domain/$DOM/device/vbd/$(devid xvdb)")
	echo "$got" | tr -d ' "' | grep -qx "$want" || fail "$*: not $want in $got"
	must "guestio load /dev/xvdb ${SECS:-3} 6"
	detach xvdb
}
case $FULL in
1)
	for order in 1 2 3 4; do
		mode ring-page-order=$order max_ring_page_order=$order max_queues=1
		mode multi-queue-num-queues=2 max_ring_page_order=$order max_queues=2 \
			feature_persistent=0
	done
	mode feature-persistent=0 max_indirect_segments=0 feature_persistent=0 max_queues=1
	mode feature-persistent=1 max_indirect_segments=256 max_queues=1 ;;
*)
	mode ring-page-order=2 max_ring_page_order=2 max_queues=2
	mode multi-queue-num-queues=2 max_queues=2 feature_persistent=0
	mode feature-persistent=0 feature_persistent=0 max_queues=1 max_indirect_segments=0
	mode ring-page-order=4 max_ring_page_order=4 max_queues=1 ;;
esac
must "rmmod xen_blkfront; load xen_blkfront"
stop_ctl
