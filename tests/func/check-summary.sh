#!/bin/bash
# tools/check ends with what has failed: a stage, a test and its last words each; with
# nothing when nothing has failed; and its status and last line say the same.
set -u
. "$(dirname "$0")/../lib/test.sh"
unset LIMIT
mkdir "$T/tools" "$T/fake" && cp "$TOP/tools/check" "$T/tools/" || fail "cp"
printf '#!/bin/sh\nexit "$INSTALL"\n' >"$T/tools/install-deps"
# A make that says what is in a file of its goal's name.
cat >"$T/fake/make" <<END
#!/bin/bash
case \$1 in -j*) shift ;; esac
[ -e "$T/fake/say-\$1" ] || { echo "1 passed, 0 failed, 0 skipped"; exit; }
. "$T/fake/say-\$1"
END
chmod +x "$T/fake/make" "$T/tools/install-deps"
export INSTALL=0
check() { PATH=$T/fake:$PATH "$T/tools/check" "$@" >"$T/out" 2>&1; }
# What stands between the heading and the count.
summary() { sed -n '/^== what has failed$/,$p' "$T/out" | sed '1d;$d'; }
last() { [ "$(tail -n 1 "$T/out")" = "$1" ] || fail "the last line: $(cat "$T/out")"; }

check || fail "status $? when all is well: $(cat "$T/out")"
last "8 passed, 0 failed, 0 skipped"
grep -q 'what has failed' "$T/out" && fail "told without a failure"

# A failed test, of two stages; one has much to say.
cat >"$T/fake/say-check" <<'END'
echo "ok    a/b (1 s)"
echo "FAIL  func/long: status 1 (3.1 s), /x.log:"
echo "    | FAIL: the reason"
for i in $(seq 40); do echo "    | line $i"; done
echo "ok    func/next (1 s)"
echo "FAIL  func/short: status 2 (0.1 s), /y.log:"
echo "    | short of words"
echo; echo "failed: func/long: status 1, see /x.log"
echo "3 passed, 2 failed, 1 skipped"
echo "make: *** [check] Error 1"
exit 2
END
cat >"$T/fake/say-check-xen" <<'END'
echo "FAIL  xen-4.20/case: status 1"
echo "    | in dom0"
echo "0 passed, 1 failed, 0 skipped"
exit 1
END
# Stages that do not count their failure.
printf 'echo "x.c:1: error: no"\nexit 2\n' >"$T/fake/say-check-tsan"
printf 'echo "1 passed, 0 failed, 0 skipped"\nexit 3\n' >"$T/fake/say-fuzz"
check && fail "status 0 with failures"
last "8 passed, 5 failed, 1 skipped"
{
	echo "-- make -j$(nproc) check SHORT_FORMS=no: func/long: status 1 (3.1 s), /x.log:"
	echo "    | FAIL: the reason"
	for i in $(seq 29 40); do echo "    | line $i"; done
	echo "-- make -j$(nproc) check SHORT_FORMS=no: func/short: status 2 (0.1 s), /y.log:"
	echo "    | short of words"
	echo "-- make -j$(nproc) check-xen XEN_SECONDS=2400: xen-4.20/case: status 1"
	echo "    | in dom0"
	echo "-- make -j$(nproc) check-tsan: status 2, the end of what it said:"
	echo "    | x.c:1: error: no"
	echo "-- make -j$(nproc) fuzz SECONDS=15: status 3, the end of what it said:"
	echo "    | 1 passed, 0 failed, 0 skipped"
	echo
} >"$T/want"
summary | diff "$T/want" - || fail "the summary"

# Stages for which no time is left.
LIMIT=24 check --quick && fail "status 0 without a test"
last "0 passed, 0 failed, 1 skipped"
grep -q '^skip  make .* check: after 0 of 24 minutes' "$T/out" || fail "not told: $(cat "$T/out")"

INSTALL=1
check && fail "status 0 without what it needs"
last "0 passed, 1 failed, 0 skipped"
summary | grep -q 'install-deps' || fail "not told: $(cat "$T/out")"
