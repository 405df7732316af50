#!/bin/bash
# tap-img makes LUKS images as qemu-img makes them: qemu-img and cryptsetup open them,
# info and measure say the same, a disk converted into one is that disk, with its
# zeroes, and comes back.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io jq
cd "$T" || exit 1

printf sesame >key
printf other >wrong
secret="secret,id=s,data=sesame"

# Data, zeroes that are written, holes, an odd end.
truncate -s 9000448 a.raw
dd if=/dev/urandom of=a.raw bs=64k seek=5 count=40 conv=notrunc status=none
dd if=/dev/zero of=a.raw bs=64k seek=60 count=20 conv=notrunc status=none
dd if=/dev/urandom of=a.raw bs=1k seek=8500 count=100 conv=notrunc status=none

same_info()
{
	tap-img info --output=json "$1" | jq -S . >o.json || fail "$what: info"
	qemu-img info --output=json "$1" | jq -S . >q.json || fail "$what: qemu-img info"
	diff o.json q.json >diff.out || fail "$what: info differs: $(cat diff.out)"
}

n=0
for o in "" cipher-alg=aes-128 cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256 \
		hash-alg=sha512 cipher-mode=cbc,ivgen-alg=plain hash-alg=sha1; do
	what="-o $o"
	rm -f x.luks
	tap-img convert -f raw -O luks -o "iter-time=10${o:+,$o}" --key-file key \
		a.raw x.luks || fail "$what: convert"
	same_info x.luks
	qemu-img convert --object "$secret" -O raw \
		--image-opts driver=luks,key-secret=s,file.filename=x.luks b.raw ||
		fail "$what: qemu-img does not open it"
	cmp a.raw b.raw || fail "$what: another disk, qemu-img says"
	tap-img convert -f luks --key-file key x.luks b.raw || fail "$what: back"
	cmp a.raw b.raw || fail "$what: another disk"
	tap-img check -q --key-file key x.luks || fail "$what: check"
	refuse 1 tap-img convert --key-file wrong x.luks c.raw
	if command -v cryptsetup >/dev/null; then
		cryptsetup open --test-passphrase --key-file key x.luks ||
			fail "$what: cryptsetup does not open it"
	fi
	n=$((n + 1))
done

what=create
tap-img create -q -f luks -o iter-time=10 --key-file key e.luks 3M || fail create
same_info e.luks
qemu-io --object "$secret" --image-opts driver=luks,key-secret=s,file.filename=e.luks \
	-c 'write -q -P 7 0 3M' || fail "qemu-io cannot write it"
[ "$(stat -c %s e.luks)" = "$(tap-img measure -O luks --size 3M --output=json |
	jq .required)" ] || fail "measure says another size"
[ "$(tap-img measure -O luks --size 3M --output=json | jq -S .)" = \
	"$(qemu_img_luks measure --object "$secret" -O luks -o key-secret=s,iter-time=10 \
		--size 3M --output=json | jq -S .)" ] ||
	fail "qemu-img measures another size"

# What cannot be is refused, and leaves nothing.
refuse 1 tap-img create -q -f luks n.luks 1M
refuse 1 tap-img create -q -f luks --key-file key -o cipher-alg=rot13 n.luks 1M
refuse 1 tap-img create -q -f luks --key-file key -o iter-time=0 n.luks 1M
[ ! -e n.luks ] || fail "a refused image is there"
# ... nor is a key taken that would encrypt nothing.
named="secret,id=s,file=key"
refuse 1 tap-img create -q -f qcow2 --object "$named" -o encrypt.key-secret=s n.img 1M
refuse 1 tap-img create -q -f vmdk --object "$named" -o key-secret=s n.img 1M
refuse 1 tap-img create -q -f raw --object "$named" -o key-secret=s n.img 1M
[ ! -e n.img ] || fail "an image without encryption was made"

# AES shows nothing of a wrong key: it is the one that is named, wherever it stands.
printf 'of-aes' >aes
qemu-img create -q -f qcow2 --object secret,id=s,file=aes \
	-o encrypt.format=aes,encrypt.key-secret=s aes.qcow2 1M 2>err ||	# it warns of AES
	fail "qemu-img: AES: $(cat err)"
qemu-io --object secret,id=s,file=aes --image-opts \
	driver=qcow2,encrypt.key-secret=s,file.filename=aes.qcow2 -c 'write -q -P 9 0 1M' ||
	fail "qemu-io: AES"
head -c 1M /dev/zero | tr '\0' '\011' >plain.raw
for first in aes key; do
	other=$([ $first = aes ] && echo key || echo aes)
	tap-img convert -q --object secret,id=$first,file=$first --object secret,id=$other,file=$other \
		--image-opts -O raw driver=qcow2,encrypt.key-secret=aes,file.filename=aes.qcow2 \
		back.raw || fail "convert from AES"
	cmp back.raw plain.raw || fail "AES with the key of another, $first first"
done
head -c 4096 x.luks >cut.luks
refuse 1 tap-img info cut.luks

# The key of data= opens, and is not to be seen among the arguments, also while another key
# is waited for before it is its turn.
hidden()
{
	tr '\0' ' ' <"/proc/$1/cmdline" >cmdline
	grep -q 'data= ' cmdline && ! grep -q sesame cmdline
}
mkfifo stdin
for how in --object= --obj= "--object "; do
	exec 9<>stdin
	# shellcheck disable=SC2086
	tap-img convert --key-file - ${how}secret,id=s,data=sesame x.luks d.raw <stdin 9>&- &
	pid=$!
	own $pid
	wait_for 10 hidden $pid || fail "$how: data= is seen: $(cat cmdline)"
	echo other >&9
	exec 9>&-
	wait $pid || fail "$how: convert: $?"
	cmp a.raw d.raw || fail "$how: another disk"
done

# A header of version 2 is described too.
if command -v cryptsetup >/dev/null; then
	truncate -s 20M two.luks
	cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
		--sector-size 4096 --key-file key two.luks || fail "luksFormat"
	tap-img info --output=json two.luks | jq -e '.["virtual-size"] == 4194304 and
		.format == "luks" and .encrypted and
		.["format-specific"].data.version == 2' >/dev/null ||
		fail "info of version 2: $(tap-img info two.luks 2>&1)"
fi
echo "$n kinds"
