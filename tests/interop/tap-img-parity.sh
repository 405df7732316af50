#!/bin/bash
# TIMEOUT: 300
# One table of command lines, each run by qemu-img and by tap-img in folders that are
# alike: the same status, the same output, the same disks.  What a refusal says is each
# one's own; ours is one line.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io jq
cd "$T" || exit 1

# The folder that every line finds: raw, qcow2 with bitmaps, with snapshots, encrypted.
mkdir start
cd start || exit 1
truncate -s 6M a.raw
for at in 0 320k 1M 2560k 5M; do
	qemu-io -f raw -c "write -q -P $((RANDOM % 200 + 1)) $at 128k" a.raw || fail qemu-io
done
qemu-img convert -f raw -O qcow2 a.raw a.qcow2 || fail convert
qemu-img convert -f raw -O qcow2 -o cluster_size=4k,compat=0.10 a.raw old.qcow2 || fail convert
cp a.qcow2 bm.qcow2
qemu-img bitmap --add -g 64k bm.qcow2 one || fail bitmap
qemu-img bitmap --add -g 4k bm.qcow2 'another one' || fail bitmap
cp a.qcow2 snap.qcow2
qemu-img snapshot -c first snap.qcow2 || fail snapshot
qemu-io -f qcow2 -c 'write -q -P 9 1M 2M' snap.qcow2
qemu-img snapshot -c 1 snap.qcow2 || fail snapshot
qemu-io -f qcow2 -c 'write -q -P 8 1M 1M' snap.qcow2
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 over.qcow2 || fail create
qemu-io -f qcow2 -c 'write -q -P 7 4M 192k' over.qcow2
qemu-img create -q -f qcow -b a.raw -F raw mid.qcow || fail create
qemu-io -f qcow -c 'write -q -P 6 2M 192k' mid.qcow
qemu-img create -q -f qcow2 -b mid.qcow -F qcow top.qcow2 || fail create
qemu-io -f qcow2 -c 'write -q -P 5 3M 192k' top.qcow2
qemu-img convert -f raw -O vmdk -o subformat=twoGbMaxExtentSparse a.raw split.vmdk || fail convert
qemu-img convert -f raw -O qcow2 -c a.raw packed.qcow2 || fail convert
cp packed.qcow2 bad.qcow2
qemu-img create -q -f qcow2 -b packed.qcow2 -F qcow2 on-packed.qcow2 || fail create
qemu-io -f qcow2 -c 'write -q -P 4 1M 64k' on-packed.qcow2
printf '\377%.0s' $(seq 40) | dd of=bad.qcow2 bs=1 seek=$((0x50000 + 70)) conv=notrunc status=none
printf 'secret\n' >key
qemu_img_luks convert -f raw -O qcow2 --object secret,id=s0,file=key \
	-o encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10 a.raw luks.qcow2 ||
	fail "qemu-img: luks"
cd .. || exit 1
for p in qemu-img tap-img; do
	cp -r --sparse=always start $p
done

# Every image that is there afterwards, as qemu-img reads it.
disks()
{
	local f fmt
	for f in "$1"/new* "$1"/edit*; do
		[ -e "$f" ] || continue
		fmt=$(qemu-img info --output=json "$f" 2>/dev/null | jq -r .format)
		echo "${f##*/} $fmt $(qemu-img info --output=json "$f" | jq '."virtual-size"')" \
			"$(qemu-img convert -f "$fmt" -O raw "$f" sum.raw && sha256sum <sum.raw)"
		[ "$fmt" != qcow2 ] || qemu-img check -q "$f" || echo "$f: not clean"
	done
}

# differs STATUS LINE: it says how.
differs()
{
	local p
	for p in qemu-img tap-img; do
		[ "$(cat $p.st)" = "$1" ] && continue
		echo "$2: $p ends with $(cat $p.st): $(cat $p.err)"
		return 0
	done
	if [ "$1" != 0 ] && [ ! -s qemu-img.out ]; then
		[ "$(grep -c . tap-img.err)" = 1 ] && return 1
		echo "$2: not one reason: $(cat tap-img.err)"
		return 0
	fi
	cmp -s qemu-img.out tap-img.out && cmp -s qemu-img.disks tap-img.disks && return 1
	echo "$2: $(diff qemu-img.out tap-img.out; diff qemu-img.disks tap-img.disks)"
}

n=0 bad=0
while IFS= read -r line; do
	case $line in '' | '#'*) continue ;; esac
	want=${line%% *}
	line=${line#* }
	for p in qemu-img tap-img; do
		rm -f $p/new* $p/edit*
		(cd $p && eval "${line//@ /$p }") >$p.out 2>$p.err </dev/null
		echo $? >$p.st
		disks $p >$p.disks 2>&1
		case $line in *output=json*) jq -S . <$p.out >$p.json && mv $p.json $p.out ;; esac
	done
	differs "$want" "$line" && bad=$((bad + 1))
	n=$((n + 1))
done <<'END'
# Sizes.
0 @ create -q -f raw new.raw 1.5M
0 @ create -q -f qcow2 new.qcow2 1.25G
0 @ create -q -f raw new.raw 0.5k
0 @ create -q -f raw new.raw 1.3k
0 @ create -q -f raw new.raw 2.M
1 @ create -q -f raw new.raw 1.5
1 @ create -q -f raw new.raw 1.5X
1 @ create -q -f raw new.raw 1.5.5M
1 @ create -q -f raw new.raw 16E
0 @ measure --size 1.5G -O raw --output=json
0 @ measure --size 1.5G -O qcow2
1 @ create -q -o size=2M new.raw 1M
0 @ create -q -o size=2M new.raw
1 @ create -q -f qcow2 -o size=2M new.qcow2 3M

# Options of convert.
1 @ convert -f raw -S 1000 a.raw new.raw
1 @ convert -f raw -S 1.5k -C a.raw new.raw
0 @ convert -f raw -S 1.5k a.raw new.raw
0 @ convert -f raw -S 100k a.raw new.raw
1 @ convert -f raw -S 4G a.raw new.raw
1 @ convert -f raw -m 17 a.raw new.raw
1 @ convert -f raw -m 0 a.raw new.raw
0 @ convert -f raw -m 16 -W a.raw new.raw
1 @ convert -f raw -O qcow2 -c -o preallocation=full a.raw new.qcow2
1 @ convert -f raw -O qcow2 -c -o preallocation=metadata a.raw new.qcow2
0 @ convert -f raw -O qcow2 -c -o preallocation=off a.raw new.qcow2
1 @ convert -f raw -O raw -c a.raw new.raw
0 @ convert -f raw -O vmdk -c a.raw new.vmdk
1 @ convert -f raw --salvage -C a.raw new.raw
0 @ convert -f raw --salvage a.raw new.raw
1 @ convert bad.qcow2 new.raw 2>err || { tail -n 1 err >&2; exit 1; }
0 @ convert -q --salvage bad.qcow2 new.raw
0 @ convert -f raw -r 100M a.raw new.raw
1 @ convert -f raw -r nonsense a.raw new.raw
1 @ convert --target-image-opts -f raw a.raw driver=raw,file.filename=new.raw
0 @ create -q new.raw 6M && @ convert -n --target-image-opts -f raw a.raw driver=raw,file.filename=new.raw

# Snapshots as sources.
0 @ convert -l first snap.qcow2 new.raw
0 @ convert -l 1 snap.qcow2 new.raw
0 @ convert -l 2 snap.qcow2 new.raw
0 @ convert -l snapshot.name=1 snap.qcow2 new.raw
0 @ convert -l snapshot.id=1 snap.qcow2 new.raw
0 @ convert -l snapshot.id=1,snapshot.name=first -O qcow2 snap.qcow2 new.qcow2
1 @ convert -l snapshot.id=2,snapshot.name=first snap.qcow2 new.raw
1 @ convert -l nosuch snap.qcow2 new.raw
1 @ convert -l first -f raw a.raw new.raw
1 @ convert -l first snap.qcow2 snap.qcow2 new.raw

# Smaller and larger.
0 cp a.qcow2 edit.qcow2 && @ resize -f qcow2 --shrink edit.qcow2 3M
0 cp a.qcow2 edit.qcow2 && @ resize -f qcow2 --shrink edit.qcow2 -1.5M
0 cp a.qcow2 edit.qcow2 && @ resize -f qcow2 --shrink edit.qcow2 1049088
0 cp old.qcow2 edit.qcow2 && @ resize -q -f qcow2 --shrink edit.qcow2 1M
0 cp packed.qcow2 edit.qcow2 && @ resize -q -f qcow2 --shrink edit.qcow2 1M
0 cp over.qcow2 edit.qcow2 && @ resize -q -f qcow2 --shrink edit.qcow2 1M
0 cp over.qcow2 edit.qcow2 && @ resize -q -f qcow2 --shrink edit.qcow2 1M && @ resize -q -f qcow2 edit.qcow2 6M
1 cp a.qcow2 edit.qcow2 && @ resize -f qcow2 edit.qcow2 3M
0 cp snap.qcow2 edit.qcow2 && @ resize -f qcow2 --shrink edit.qcow2 3M
0 cp snap.qcow2 edit.qcow2 && @ resize -f qcow2 edit.qcow2 9M
1 cp split.vmdk edit.vmdk && @ resize -f vmdk --shrink edit.vmdk 3M
0 cp a.raw edit.raw && @ resize -f raw --shrink edit.raw 3.5M
1 cp a.raw edit.raw && @ resize -f raw edit.raw 3.5M
0 cp a.raw edit.raw && @ resize -f raw edit.raw +512
0 cp a.qcow2 edit.qcow2 && @ resize -f qcow2 --preallocation=metadata edit.qcow2 +8M
0 cp a.qcow2 edit.qcow2 && @ resize -f qcow2 --preallocation=falloc edit.qcow2 +8M
0 cp a.qcow2 edit.qcow2 && @ resize -f qcow2 --preallocation=full edit.qcow2 +8M
0 cp a.qcow2 edit.qcow2 && @ resize -f qcow2 --preallocation=off edit.qcow2 +8M
0 cp old.qcow2 edit.qcow2 && @ resize -q -f qcow2 --preallocation=metadata edit.qcow2 +8M
1 cp a.qcow2 edit.qcow2 && @ resize -f qcow2 --preallocation=some edit.qcow2 +8M
1 cp a.raw edit.raw && @ resize -f raw --preallocation=metadata edit.raw +8M
0 cp a.raw edit.raw && @ resize -f raw --preallocation=full edit.raw +8M
1 cp a.qcow2 edit.qcow2 && @ resize -f qcow2 --shrink --preallocation=full edit.qcow2 3M

# Keys and descriptions.
0 @ convert --object secret,id=s0,file=key --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2 -O raw new.raw
0 @ map --object secret,id=s0,file=key --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2 --output=json
0 @ check --object secret,id=s0,file=key --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2
0 @ compare --object secret,id=s0,file=key --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2 driver=raw,file.filename=a.raw
1 @ compare --image-opts driver=qcow2,file.filename=a.qcow2 driver=raw,file.filename=luks.qcow2
0 @ measure -O raw --image-opts driver=qcow2,file.filename=a.qcow2
1 @ convert --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2 -O raw new.raw
1 @ convert --object secret,id=s0,data=wrong --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2 -O raw new.raw
0 @ convert --object secret,id=s0,data="$(cat key)"$'\n' --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2 -O raw new.raw
1 @ convert -f qcow2 --image-opts driver=qcow2,file.filename=a.qcow2 new.raw
1 @ info --image-opts a.qcow2
1 @ info --image-opts driver=qcow2,file.filename=a.qcow2,nosuch=1
1 @ info --object nonsense,id=1 a.qcow2
1 @ info --object secret,id=s0 a.qcow2
1 @ create --object secret,id=s0,file=key -q -f qcow2 -o encrypt.format=aes,encrypt.key-secret=other new.qcow2 1M

# What is listed.
0 @ snapshot -l a.raw
0 @ snapshot -l a.qcow2
0 @ snapshot -l snap.qcow2
1 @ snapshot -c x a.raw
0 @ measure -O qcow2 -f qcow2 a.qcow2 --output=json
0 @ measure -O qcow2 -f qcow2 bm.qcow2 --output=json
0 @ measure -O qcow2 -f qcow2 bm.qcow2
0 @ measure -O qcow2 -o cluster_size=4k -f qcow2 bm.qcow2
0 @ measure -O qcow2 -o compat=0.10 -f qcow2 bm.qcow2 --output=json
0 @ measure -O qcow2 -f qcow2 old.qcow2 --output=json
0 @ measure -O qcow2 -f raw a.raw --output=json
0 @ measure -O raw -f qcow2 bm.qcow2 --output=json
0 @ map --output=json split.vmdk
0 @ map split.vmdk
0 @ map --output=json top.qcow2
0 @ map top.qcow2
0 @ map --output=json packed.qcow2
1 @ map packed.qcow2
0 @ map --output=json on-packed.qcow2
1 @ map on-packed.qcow2
0 @ convert top.qcow2 new.raw
0 @ compare top.qcow2 top.qcow2

# Strict comparisons.
0 @ compare -s -f qcow2 -F qcow2 a.qcow2 a.qcow2
1 @ compare -s -f raw -F qcow2 a.raw a.qcow2
1 @ compare -s -f qcow2 -F qcow2 a.qcow2 over.qcow2
1 @ compare -s -f qcow2 -F qcow2 a.qcow2 packed.qcow2
1 @ compare -s -f qcow2 -F qcow2 a.qcow2 snap.qcow2
0 @ compare -s -f qcow2 -F qcow2 a.qcow2 old.qcow2
END
echo "$n command lines"
[ $bad = 0 ] || fail "$bad differ"
[ $n -gt 60 ] || fail "only $n command lines"
