# What the front end can ask for, by its parameters: ring of 1 to 16 pages, 1 and 2
# queues, with persistent grants (which are mapped) and without (which are copied),
# and indirect segments.
# SHORT: 4.20
# TIMEOUT: 1800
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
	for pages in 0 1 2 3 4; do
		case $pages in
		0) rings=backend-id=0 ;;
		*) rings=ring-page-order=$pages ;;
		esac
		for keep in 0 1; do
			for indirect in 0 32 256; do
				# 16 pages of ring times 256 that stay are too many for it
				[ $indirect != 256 ] || [ $pages = 0 ] || continue
				mode $rings max_ring_page_order=$pages max_queues=1 \
					feature_persistent=$keep max_indirect_segments=$indirect
			done
			mode multi-queue-num-queues=2 max_ring_page_order=$pages max_queues=2 \
				feature_persistent=$keep
		done
	done ;;
*)
	mode ring-page-order=2 max_ring_page_order=2 max_queues=2
	mode multi-queue-num-queues=2 max_queues=2 feature_persistent=0
	mode feature-persistent=0 feature_persistent=0 max_queues=1 max_indirect_segments=0
	mode ring-page-order=4 max_ring_page_order=4 max_queues=1 ;;
esac
must "rmmod xen_blkfront; load xen_blkfront"
stop_ctl
