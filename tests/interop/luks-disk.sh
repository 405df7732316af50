#!/bin/bash
# An encrypted disk of a real tapdisk in its sandbox: keys from files, both versions,
# Argon2 with its threads; qemu agrees on what is in the file; who has no key is
# told so.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io jq
PATH=$BUILD/func:$PATH
size=32
printf 'sesame\n' >"$T/key"
printf 'other\n' >"$T/wrong"

random_file "$T/src.raw" $size
start_ctl
for v in 'version=1' 'version=2 ms=300' 'version=2 sector=4096'; do
	# shellcheck disable=SC2086
	luksrig format "$T/a.luks" sesame ${size}M $v || fail "format $v"
	create "luks:$T/a.luks" --key-file "$T/wrong" --key-file "$T/key"
	qemu-img convert -n -f raw -O raw "$T/src.raw" "$URI" || fail "$v: convert"
	qemu-img compare -f raw -F raw "$T/src.raw" "$URI" || fail "$v: compare"
	qemu-io -f raw "$URI" -c 'write -P 7 512 1024' -c 'write -z 1M 1M' \
		-c 'discard 2M 1M' -c 'write -f -P 9 4M 512k' -c flush \
		>"$T/out" 2>&1 || fail "$v: $(cat "$T/out")"
	qemu-io -f raw "$URI" -c 'read -P 7 512 1024' -c 'read -P 0 1M 1M' \
		-c 'read -P 9 4M 512k' >"$T/out" 2>&1 || fail "$v: $(cat "$T/out")"
	grep -q 'verification failed' "$T/out" && fail "$v: $(cat "$T/out")"
	qemu-img convert -f raw -O raw "$URI" "$T/now.raw" || fail "$v: read back"
	destroy "$MINOR"
	luksrig get "$T/a.luks" "$T/got.raw" sesame || fail "$v: get"
	cmp "$T/now.raw" "$T/got.raw" || fail "$v: the file holds other data"
	if [ "$v" = version=1 ]; then
		qemu-img convert --object secret,id=s,data=sesame --image-opts \
			"driver=luks,key-secret=s,file.filename=$T/a.luks" \
			-O raw "$T/got.raw" || fail "qemu-img cannot read it"
		cmp "$T/now.raw" "$T/got.raw" || fail "qemu reads other data"
	fi
	refuse any tap-ctl create -a "luks:$T/a.luks" --key-file "$T/wrong"
	case $ERR in
	*'no passphrase given opens it'*) ;;
	*) fail "the wrong key: $ERR" ;;
	esac
	refuse any tap-ctl create -a "luks:$T/a.luks"
	case $ERR in *'no passphrase was given'*) ;; *) fail "no key: $ERR" ;; esac
done
stop_ctl
