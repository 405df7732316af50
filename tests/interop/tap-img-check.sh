#!/bin/bash
# tap-img check finds in damaged qcow2 images what qemu-img check finds, as many of
# each; what it repairs is clean to qemu-img, or as good as qemu-img's repair.
# Each kind of damage is done to the image whose L2 tables are shared, and to three of the
# others, with sanitizers to one; with IMAGE_ROUNDS to three more for each of these, as
# many times.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io jq python3
damage=$TOP/tests/lib/qcow2damage.py
cd "$T" || exit 1
seed

# make NAME OPTIONS: an image with data, zeroes, compressed clusters, holes.
make()
{
	local f=$1.base
	shift
	qemu-img create -q -f qcow2 -o "$*" $f 24M || fail "create $*"
	qemu-io -f qcow2 -c 'write -q -P 1 0 1M' -c 'write -q -P 2 5M 700k' \
		-c 'write -q -z 200k 300k' -c 'discard 5M 64k' \
		-c 'write -q -c -P 3 8M 64k' -c 'write -q -c -P 4 9M 128k' \
		-c 'write -q -P 5 23M 1M' $f >/dev/null || fail "qemu-io $*"
}
make v3 compat=1.1
make small compat=1.1,cluster_size=512
make v2 compat=0.10,cluster_size=4k
make ext extended_l2=on,cluster_size=32k
for b in 1 2 8 64; do
	make rb$b refcount_bits=$b,cluster_size=4k
done
make zstd compression_type=zstd
cp v3.base snap.base
for n in 1 2 3; do
	qemu-img snapshot -c s$n snap.base || fail snapshot
	qemu-io -f qcow2 -c "write -q -P 0x2$n 300k ${n}00k" snap.base || fail qemu-io
done
cp v3.base bitmap.base
qemu-img bitmap --add -g 64k --enable bitmap.base b0 || fail bitmap
qemu-io -f qcow2 -c 'write -q 3M 300k' bitmap.base || fail qemu-io
printf secret >key
tap-img create -q -f qcow2 -o encrypt.format=luks,encrypt.iter-time=10 --key-file key \
	luks.base 24M || fail "create luks"
opts_of() { echo --object secret,id=s,file=key --image-opts \
	"driver=qcow2,file.filename=$1,encrypt.key-secret=s"; }
# shellcheck disable=SC2046
qemu-io -c 'write -q -P 1 0 1M' $(opts_of luks.base) >/dev/null || fail "qemu-io luks"
images=$(ls ./*.base)
make shared compat=1.1,cluster_size=4k	# L2 tables that the disk and snapshots share
for n in a b; do
	qemu-img snapshot -c $n shared.base || fail snapshot
done
each=3
[ -z "$SAN" ] || each=1
each=$((each + 3 * ${IMAGE_ROUNDS:-0}))

# check PROGRAM FILE ARGS...: QEMU wants the key even for that.
check()
{
	local prog=$1 file=$2
	shift 2
	if [ "$prog$base" = qemu-img./luks.base ]; then
		# shellcheck disable=SC2046
		qemu-img check "$@" $(opts_of "$file")
	else
		"$prog" check "$@" -f qcow2 "$file"
	fi
}

# result PROGRAM FILE: status and numbers, in one line
result()
{
	local prog=$1 rc
	check "$prog" "$2" --output=json >"$prog.json" 2>"$prog.err"
	rc=$?
	[ -s "$prog.json" ] && jq -c "[$rc, .corruptions, .leaks, (.\"check-errors\" > 0),
		.\"image-end-offset\", .\"total-clusters\", .\"allocated-clusters\",
		.\"fragmented-clusters\", .\"compressed-clusters\"]" "$prog.json" ||
		echo "[$rc]"
}

count=0 refused=0
for kind in $(python3 "$damage" list); do
	left=$((each + 1))
	for base in ./shared.base $(shuf -e $images --random-source=<(yes $SEED)); do
		[ $((left--)) -gt 0 ] || break
		for ((i = 0; i < ${IMAGE_ROUNDS:-1}; i++)); do
			cp "$base" x.qcow2
			what=$(python3 "$damage" x.qcow2 "$kind" $((SEED + i)))
			case $? in
			0) ;;
			3) left=$((left + 1)); continue 2 ;;
			*) fail "$kind $base: $what" ;;
			esac
			where="$base, $kind, seed $((SEED + i)): $what"
			q=$(result qemu-img x.qcow2)
			t=$(result tap-img x.qcow2)
			count=$((count + 1))
			if [ "$t" = '[1]' ] && [ "$q" != "$t" ]; then
				# The header says it: no check is begun.
				grep -q 'cannot read' tap-img.err || fail "$where: $(cat tap-img.err)"
				refused=$((refused + 1))
				continue
			fi
			[ "$q" = "$t" ] || fail "$where
qemu-img $q: $(head -n 5 qemu-img.err)
tap-img  $t: $(head -n 5 tap-img.err)"
			for how in leaks all; do
				cp x.qcow2 q.qcow2
				cp x.qcow2 t.qcow2
				check qemu-img q.qcow2 -q -r $how >/dev/null 2>&1
				check tap-img t.qcow2 -q -r $how >/dev/null 2>t.err
				tr=$?
				q=$(check qemu-img q.qcow2 -q 2>/dev/null; echo $?)
				t=$(check qemu-img t.qcow2 -q 2>qt.err; echo $?)
				[ "$t" = $tr ] || fail "$where: -r $how says $tr, qemu-img $t:
$(cat qt.err)"
				case $q$t in
				0[^0]) fail "$where: -r $how: qemu-img's is clean, ours $t:
$(cat t.err qt.err)" ;;
				3[12]) fail "$where: -r $how: qemu-img's leaks, ours $t" ;;
				esac
			done
		done
	done
done
# An L1 table of 2^17 entries that all name the same L2 table of 2 MiB: what is in that counts
# as often, but it is read once.
qemu-img create -q -f qcow2 -o cluster_size=2M,refcount_bits=64 x.qcow2 64P || fail "create 64P"
qemu-io -f qcow2 -c 'write -q -P 1 0 4M' x.qcow2 || fail qemu-io
python3 - x.qcow2 <<'END' || fail "no L1 table to damage"
import struct, sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(36)
    n, l1 = struct.unpack('>IQ', f.read(12))
    f.seek(l1)
    entry = f.read(8)
    f.seek(l1)
    f.write(entry * n)
END
timeout 300 tap-img check -f qcow2 --output=json x.qcow2 >t.json 2>t.err
rc=$?
[ "$rc $(jq '."allocated-clusters"' t.json)" = "2 $((2 << 17))" ] ||
	fail "one L2 table: status $rc: $(head -n 5 t.err; cat t.json)"
refuse 1 timeout 300 tap-img snapshot -c s x.qcow2
timeout 300 tap-img check -q -r all -f qcow2 x.qcow2 2>t.err || fail "one L2 table: -r all: $?"

# A bitmap whose table is at no cluster's start: QEMU does not even open that.
base=bitmap.base
cp $base x.qcow2
python3 - x.qcow2 <<'END' || fail "no bitmap to damage"
import struct, sys
with open(sys.argv[1], 'r+b') as f:
    b, at = f.read(65536), 112
    while struct.unpack_from('>I', b, at)[0] != 0x23852875:
        at += 8 + (struct.unpack_from('>I', b, at + 4)[0] + 7) // 8 * 8
    f.seek(struct.unpack_from('>Q', b, at + 24)[0])
    table, = struct.unpack('>Q', f.read(8))
    f.seek(-8, 1)
    f.write(struct.pack('>Q', table + 512))
END
tap-img check -q -f qcow2 x.qcow2 2>t.err
[ $? = 2 ] && grep -q "a bitmap's table" t.err || fail "a bitmap: $(cat t.err)"

# 65535 bitmaps, each with a table that is too long to be right, in a file that is long and
# sparse: what of them lies in the file is not marked once for each.
qemu-img create -q -f qcow2 -o cluster_size=4k x.qcow2 1M || fail create
qemu-img snapshot -c s x.qcow2 || fail snapshot
qemu-img bitmap --add -g 64k x.qcow2 b0 || fail bitmap
python3 - x.qcow2 <<'END' || fail "no directory of bitmaps to damage"
import struct, sys
with open(sys.argv[1], 'r+b') as f:
    b, at = f.read(4096), 112
    while struct.unpack_from('>I', b, at)[0] != 0x23852875:
        at += 8 + (struct.unpack_from('>I', b, at + 4)[0] + 7) // 8 * 8
    where = f.seek(0, 2) + 4095 & ~4095
    entry = struct.pack('>QIIBBHIB7x', where, 0xffffffff, 0, 1, 16, 1, 0, ord('b'))
    f.seek(where)
    f.write(entry * 65535)
    f.seek(at + 8)
    f.write(struct.pack('>IIQQ', 65535, 0, 65535 * len(entry), where))
    f.truncate(33 << 30)
END
timeout 300 tap-img check -f qcow2 x.qcow2 >t.out 2>t.err
[ $? = 1 ] && grep -q 'cannot check' t.err || fail "many bitmaps: $(tail -n 3 t.err)"
refuse 1 timeout 300 tap-img snapshot -d s x.qcow2
printf '\001' | dd of=x.qcow2 bs=1 seek=79 conv=notrunc status=none	# dirty
refuse 1 timeout 300 tap-img resize -f qcow2 x.qcow2 +1M
note "$count damaged images, $refused refused for their header"
[ $count -gt $((each * 20)) ] || fail "only $count images"
