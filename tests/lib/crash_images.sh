# crash_images.sh - the images that power cuts and faults are tried on.  Source it
# after test.sh.
# shellcheck shell=bash disable=SC2034
#
# crash_image NAME makes one below $T and sets:
#	SPEC FORMAT FILES (the image first) INITIAL (what the disk holds, raw)
#	CRASH_OPTS (what the program must know of it)
# CRASH_NAMES lists all.

CRASH_NAMES="raw
qcow2-64k qcow2-4k qcow2-512 qcow2-64k-grow qcow2-4k-grow qcow2-512-grow
qcow2-v2 qcow2-v2-parent
qcow2-short-parent qcow2-long-parent qcow2-qcow2-parent qcow2-4k-chain
qcow2-snapshot qcow2-4k-snapshot qcow2-compressed qcow2-4k-compressed qcow2-zstd
qcow2-packing qcow2-4k-packing
qcow2-extended qcow2-extended-parent qcow2-refs-1 qcow2-refs-64 qcow2-refs-1-snapshot
qcow2-data-file qcow2-data-file-raw qcow2-lazy qcow2-aes qcow2-luks
qcow qcow-4k qcow-parent qcow-compressed
vmdk vmdk-zeroed vmdk-parent vmdk-zeroed-parent vmdk-split"
# That tools make smaller, and nobody else.
CRASH_SHRINK="qcow2-4k-shrink qcow2-512-shrink qcow2-extended-shrink qcow2-data-file-shrink
qcow2-512-snapshot-shrink qcow2-512-pieces-shrink"

# Two files with the same random megabytes here and there.
crash_raw()
{
	local mib=$2
	truncate -s "${mib}M" "$1"
	dd if=/dev/urandom of="$1" bs=4k count=24 seek=3 conv=notrunc status=none
	dd if=/dev/urandom of="$1" bs=512 count=901 seek=1555 conv=notrunc status=none
	yes "something that packs well" | dd of="$1" bs=1k count=700 seek=1000 \
		iflag=fullblock conv=notrunc status=none 2>/dev/null
}

# qcow2 SIZE OPTIONS [QEMU-IO COMMAND...]
crash_create()
{
	local fmt=$1 size=$2 opts=$3
	shift 3
	qemu-img create -q -f "$fmt" ${opts:+-o "$opts"} "$IMG" "$size" || return 1
	[ $# = 0 ] || qemu-io -f "$fmt" "$@" "$IMG" >"$T/qemu-io.out" 2>&1 ||
		fail "qemu-io: $(cat "$T/qemu-io.out")"
}

some=(-c 'write -q -P 17 10k 70k' -c 'write -q -P 18 1M 200k' -c 'write -q -z 64k 64k')

crash_image()
{
	local name=$1 d=$T/$1
	rm -rf "$d"
	mkdir "$d"
	IMG=$d/a.img
	FORMAT=${name%%-*} SPEC=$FORMAT:$IMG FILES=$IMG INITIAL='' CRASH_OPTS=''
	case $name in
	raw)
		truncate -s 2M "$IMG"
		SPEC=aio:$IMG ;;
	qcow2-64k)	crash_create qcow2 5M '' ;;
	qcow2-4k)	crash_create qcow2 3M cluster_size=4k "${some[@]}" ;;
	qcow2-512)	crash_create qcow2 1M cluster_size=512 ;;
	qcow2-*-grow)
		local cs=${name#qcow2-}
		crash_create qcow2 1000k "cluster_size=${cs%-grow}"
		CRASH_OPTS=--grow ;;
	qcow2-*-shrink)
		local o=cluster_size=${name#qcow2-}
		o=${o%-shrink}
		o=${o%-snapshot}
		o=${o%-pieces}
		[ "$name" = qcow2-extended-shrink ] && o=extended_l2=on,cluster_size=16k
		[ "$name" = qcow2-data-file-shrink ] && o=cluster_size=4k,data_file=data
		local size=2000k	# (more than 8M: in pieces)
		[ "$name" = qcow2-512-pieces-shrink ] && size=18M
		(cd "$d" && IMG=a.img && crash_create qcow2 $size "$o" "${some[@]}")
		[ "$name" = qcow2-data-file-shrink ] && FILES="$IMG $d/data"
		[ "$name" = qcow2-512-snapshot-shrink ] && qemu-img snapshot -c one "$IMG"
		CRASH_OPTS=--shrink ;;
	qcow2-v2)	crash_create qcow2 3M compat=0.10,cluster_size=4k ;;
	qcow2-v2-parent)
		crash_raw "$d/base" 4
		(cd "$d" && IMG=a.img && crash_create qcow2 3M \
			compat=0.10,cluster_size=16k,backing_file=base,backing_fmt=raw)
		FILES="$IMG $d/base" ;;
	qcow2-short-parent)
		crash_raw "$d/base" 2
		(cd "$d" && IMG=a.img && crash_create qcow2 5M \
			backing_file=base,backing_fmt=raw)
		FILES="$IMG $d/base" ;;
	qcow2-long-parent)
		crash_raw "$d/base" 6
		(cd "$d" && IMG=a.img && crash_create qcow2 3M \
			cluster_size=4k,backing_file=base,backing_fmt=raw)
		FILES="$IMG $d/base" ;;
	qcow2-qcow2-parent)
		crash_raw "$d/raw" 3
		qemu-img convert -f raw -O qcow2 "$d/raw" "$d/base"
		(cd "$d" && IMG=a.img && crash_create qcow2 4M \
			cluster_size=16k,backing_file=base,backing_fmt=qcow2)
		FILES="$IMG $d/base" ;;
	qcow2-4k-chain)
		crash_raw "$d/raw" 3
		qemu-img convert -c -f raw -O qcow2 "$d/raw" "$d/base"
		(cd "$d" && IMG=mid && crash_create qcow2 3M \
			cluster_size=4k,backing_file=base,backing_fmt=qcow2 \
			"${some[@]}" &&
		IMG=a.img && crash_create qcow2 3M \
			cluster_size=4k,backing_file=mid,backing_fmt=qcow2)
		FILES="$IMG $d/mid $d/base" ;;
	qcow2-snapshot|qcow2-4k-snapshot|qcow2-refs-1-snapshot)
		local o=
		[ "$name" = qcow2-4k-snapshot ] && o=cluster_size=4k
		[ "$name" = qcow2-refs-1-snapshot ] && o=refcount_bits=2
		crash_create qcow2 4M "$o" "${some[@]}"
		qemu-img snapshot -c one "$IMG"
		qemu-io -c 'write -q -P 33 60k 9k' -c 'write -q -P 34 2M 100k' "$IMG"
		qemu-img snapshot -c two "$IMG" ;;
	qcow2-compressed|qcow2-4k-compressed|qcow2-zstd)
		local o=cluster_size=64k
		[ "$name" = qcow2-4k-compressed ] && o=cluster_size=4k
		[ "$name" = qcow2-zstd ] && o=compression_type=zstd
		crash_raw "$d/raw" 3
		qemu-img convert -c -o "$o" -f raw -O qcow2 "$d/raw" "$IMG" ;;
	qcow2-packing)	crash_create qcow2 4M '' ; CRASH_OPTS=--pack ;;
	qcow2-4k-packing)
		crash_create qcow2 3M cluster_size=4k
		CRASH_OPTS=--pack ;;
	qcow2-extended)	crash_create qcow2 5M extended_l2=on "${some[@]}" ;;
	qcow2-extended-parent)
		crash_raw "$d/base" 2
		(cd "$d" && IMG=a.img && crash_create qcow2 4M \
			extended_l2=on,cluster_size=16k,backing_file=base,backing_fmt=raw)
		FILES="$IMG $d/base" ;;
	qcow2-refs-1)	crash_create qcow2 3M refcount_bits=1,cluster_size=4k ;;
	qcow2-refs-64)	crash_create qcow2 3M refcount_bits=64,cluster_size=4k ;;
	qcow2-data-file|qcow2-data-file-raw)
		local o=cluster_size=16k,data_file=data
		[ "$name" = qcow2-data-file-raw ] && o=$o,data_file_raw=on
		(cd "$d" && IMG=a.img && crash_create qcow2 3M $o)
		FILES="$IMG $d/data" ;;
	qcow2-lazy)
		crash_create qcow2 3M lazy_refcounts=on,cluster_size=4k
		CRASH_OPTS=--lazy ;;
	qcow2-aes|qcow2-luks)
		local o=encrypt.key-secret=s,cluster_size=16k
		case $name in
		*luks) o=$o,encrypt.format=luks,encrypt.iter-time=10 ;;
		*) o=$o,encrypt.format=aes ;;
		esac
		printf secret >"$d/key"
		qemu_img_luks create -q -f qcow2 --object secret,id=s,file="$d/key" \
			-o "$o" "$IMG" 3M || return 1
		truncate -s 3M "$d/initial"
		INITIAL=$d/initial
		CRASH_OPTS="--key $d/key --crypt ${name#qcow2-}" ;;
	qcow)		crash_create qcow 3M '' ;;
	qcow-4k)	crash_create qcow 3M '' "${some[@]:0:4}" ;;
	qcow-parent)
		crash_raw "$d/base" 2
		(cd "$d" && qemu-img create -q -f qcow -F raw -b base a.img 3M)
		FILES="$IMG $d/base"
		SPEC="qcow:$IMG
aio:$d/base"
		INITIAL=$d/initial
		cp "$d/base" "$INITIAL"
		truncate -s 3M "$INITIAL" ;;
	qcow-compressed)
		crash_raw "$d/raw" 3
		qemu-img convert -c -f raw -O qcow "$d/raw" "$IMG" 2>/dev/null
		INITIAL=$d/raw ;;
	vmdk)		crash_create vmdk 5M '' "${some[@]:0:4}" ;;
	vmdk-zeroed)	crash_create vmdk 5M zeroed_grain=on "${some[@]}" ;;
	vmdk-parent|vmdk-zeroed-parent)
		local o=backing_file=base.vmdk
		[ "$name" = vmdk-zeroed-parent ] && o=$o,zeroed_grain=on
		crash_raw "$d/raw" 5
		qemu-img convert -f raw -O vmdk "$d/raw" "$d/base.vmdk"
		(cd "$d" && qemu-img create -q -f vmdk -F vmdk -o $o a.img)
		FILES="$IMG $d/base.vmdk" ;;
	vmdk-split)
		crash_create vmdk 5M subformat=twoGbMaxExtentSparse || return 1
		FILES="$IMG $(ls "$d"/a-s*)" ;;
	*) fail "no image $name" ;;
	esac || return 1
	if [ -z "$INITIAL" ]; then
		INITIAL=$d/initial
		(cd "$d" && qemu-img convert -f "$FORMAT" -O raw a.img initial) ||
			return 1
	fi
	[ "$FORMAT" = raw ] || tapdisk --features | grep -qw "$FORMAT"
}

# crash_run NAME OPTION...: the program over that image.
crash_run()
{
	local f files=()
	for f in $FILES; do files+=(--file "$f"); done
	# shellcheck disable=SC2086
	"$BUILD/crash/crash" --spec "$SPEC" --format "$FORMAT" "${files[@]}" \
		--initial "$INITIAL" $CRASH_OPTS "$@"
}
