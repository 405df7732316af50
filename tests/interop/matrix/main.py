#!/usr/bin/env python3
"""The interoperation matrix of image formats; started by matrix.sh.

    main.py DIR [--long] [--seed N] [--jobs N] [--budget SECONDS] [--only WORD] [--self]
            [--list]

Every cell is one way an image can be, and is run three ways: QEMU writes and we
read, we write and QEMU reads and checks, both in turns.  A model says what must be
read.  --self puts QEMU in our place, to try the tests themselves.
"""
import argparse
import collections
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from multiprocessing import Pool

import nbd

import qcow1
import qcow2
import sides
import vmdk
import ways
from sides import Unable, Wrong


def cells(rng, product):
    """{name: make}: one axis at a time, then some of the product of all."""
    out = {}

    def add(o):
        name = 'qcow2:' + (','.join('%s=%s' % (a, v) for a, v in o.items()
                                    if v != qcow2.DEFAULT[a]) or 'default')
        out[name] = lambda d, *a: qcow2.make(d, o, *a)

    add(dict(qcow2.DEFAULT))
    impossible = []
    for axis, values in qcow2.AXES.items():
        for v in values[1:]:
            o = dict(qcow2.DEFAULT, **{axis: v})
            why = qcow2.impossible(o)
            if why:
                impossible.append(('qcow2:%s=%s' % (axis, v), why))
            else:
                add(o)
    for o in PAIRS:
        o = dict(qcow2.DEFAULT, **o)
        assert not qcow2.impossible(o), (o, qcow2.impossible(o))
        add(o)
    for k in qcow1.CELLS:
        out['qcow:' + k] = lambda d, *a, k=k: qcow1.make(d, k, *a)
    for k in vmdk.CELLS:
        out['vmdk:' + k] = lambda d, *a, k=k: vmdk.make(d, k, *a)
    single = len(out)
    while len(out) < single + product:
        o = {a: rng.choice(v) if rng.random() < 0.35 else v[0]
             for a, v in qcow2.AXES.items()}
        if not qcow2.impossible(o):
            add(o)
    return out, impossible


def pairs():
    """What 7.2's rows say of two axes together."""
    out = []
    for cs in qcow2.AXES['cluster']:
        out.append({'compat': '0.10', 'cluster': cs})
        out += [{'cluster': cs, 'pack': p} for p in ('zlib-mix', 'zstd-last')]
        out.append({'cluster': cs, 'snapshots': '3'})
        out.append({'cluster': cs, 'backing': 'raw-longer'})
        out += [{'cluster': cs, 'refcount': r} for r in ('1', '64')]
        if qcow2.number(cs) >= 16384:
            out.append({'cluster': cs, 'l2': 'ext'})
            out.append({'cluster': cs, 'l2': 'ext', 'backing': 'zeroes'})
        for s in ('l2-', 'l2', 'l2+', 'odd'):
            out.append({'cluster': cs, 'size': s})
    for r in ('1', '2'):
        out += [{'refcount': r, 'pack': p} for p in ('zlib', 'zstd-mix', 'zlib-last')]
    for p in ('metadata', 'falloc', 'full'):
        out += [{'prealloc': p, 'crypt': 'luks'}, {'prealloc': p, 'data': 'external'}]
    for s in ('2G-', '2G', '2G+', '4G', '4G+'):
        out.append({'size': s, 'prealloc': 'metadata'})
    for x in ('metadata',):
        out.append({'prealloc': x, 'l2': 'ext', 'backing': 'raw-equal'})
    out += [{'data': 'external', 'crypt': 'luks'}, {'data': 'external', 'backing': 'qcow2-4k'},
            {'data': 'external', 'size': '65024'}, {'data': 'raw', 'size': '512'},
            {'data': 'external', 'size': 'odd', 'cluster': '1M'},
            {'data': 'external', 'l2': 'ext'}, {'data': 'raw', 'crypt': 'luks'},
            {'lazy': 'dirty', 'snapshots': '3'}, {'lazy': 'dirty', 'pack': 'zlib'},
            {'lazy': 'dirty', 'crypt': 'luks'}, {'lazy': 'dirty', 'backing': 'chain3'},
            {'lazy': 'on', 'snapshots': 'deleted'}, {'compat': '0.10', 'snapshots': '3'},
            {'compat': '0.10', 'crypt': 'aes'}, {'compat': '0.10', 'backing': 'raw-longer'},
            {'compat': '0.10', 'pack': 'zlib-mix'}, {'compat': '0.10', 'header': 'extension'},
            {'crypt': 'luks', 'snapshots': '3'}, {'crypt': 'aes', 'snapshots': '3'},
            {'crypt': 'luks', 'backing': 'qcow2-1M'}, {'crypt': 'luks', 'l2': 'ext'},
            {'crypt': 'aes', 'backing': 'raw-shorter'}, {'bitmaps': 'enabled', 'snapshots': '3'},
            {'l2': 'ext', 'snapshots': '3'}, {'l2': 'ext', 'pack': 'zstd-mix'},
            {'l2': 'ext', 'snapshots': 'applied', 'cluster': '16k'}]
    return [o for o in out if not qcow2.impossible(dict(qcow2.DEFAULT, **o))]


PAIRS = pairs()


class Watch:
    """Ends what a cell has started when it takes too long: a call of libnbd that waits
    for a server cannot be interrupted otherwise."""

    def __init__(self, seconds):
        self.late = False
        self.timer = threading.Timer(seconds, self.end)
        self.timer.start()

    def end(self):
        self.late = True
        with open('/proc/self/task/%d/children' % os.getpid()) as f:
            for pid in f.read().split():
                os.kill(int(pid), signal.SIGKILL)


def one(job):
    """(name, way, 'ok' | 'not' | 'WRONG', words, notes, seconds)"""
    name, way = job
    d = os.path.join(opt.dir, '%d%s' % (list(ALL).index(name), way))
    os.mkdir(d)
    os.chdir(d)             # QEMU looks for a data file by its name as it is
    logfile = os.path.join(opt.dir, os.path.basename(d) + '.log')
    err = os.dup(2)
    fd = os.open(logfile, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(fd, 2)
    os.close(fd)
    rng = random.Random('%d %s %s' % (opt.seed, name, way))
    notes, start = [], time.monotonic()
    result, words = 'ok', ''
    watch = Watch(300 if opt.long else 100)
    try:
        ours = way == 'b' and not opt.self
        img = ALL[name](d, rng, 'tap-img' if ours else 'qemu-img')
        if not opt.self and img.fmt not in TYPES:
            raise Unable('tapdisk has no %s yet' % img.fmt)
        if ours and img.key and not qcow2.KEYS[0]:
            notes.append('tap-img create takes no --key-file: qemu-img made it')
        count = 14 if opt.long else 10
        if way == 'a':
            ways.way_a(img, rng, count, notes)
        elif way == 'b':
            ways.way_b(img, rng, count, notes)
        else:
            ways.way_c(img, rng, count, notes, 20 if opt.long else 6)
    except Unable as e:
        result, words = 'not', str(e)
    except (Wrong, nbd.Error) as e:
        result, words = 'WRONG', str(e)
    except Exception:
        result, words = 'WRONG', traceback.format_exc()
    watch.timer.cancel()
    if watch.late:
        result, words = 'WRONG', 'no end after its time; ' + words
    os.dup2(err, 2)
    os.close(err)
    tail = ''
    if result == 'WRONG':
        with open(logfile, errors='replace') as f:
            tail = ''.join(f.readlines()[-60 if opt.only else -12:])
    os.chdir(opt.dir)
    keep = result == 'WRONG' and opt.keep
    if not keep:
        shutil.rmtree(d, ignore_errors=True)
        os.unlink(logfile)
    return name, way, result, words, [n for n in notes if n], tail, time.monotonic() - start


def features():
    out = sides.run('tapdisk', '--features')
    types = set()
    for line in out.splitlines():
        if line.startswith('type '):
            types.update(line.split()[1].split(','))
    qcow2.KEYS[0] = '--key-file' in sides.run('tap-img', 'create', '--help')
    return types


def main():
    jobs = [(n, w) for n in ALL for w in 'abc'
            if not opt.only or opt.only in '%s/%s' % (n, w)]
    if not opt.long and not opt.only:
        random.Random(opt.seed).shuffle(jobs)
        first = ('qcow2:default', 'qcow:plain', 'vmdk:monolithicSparse')
        slow = [j for j in jobs if 'crypt=luks' in j[0]]
        jobs.sort(key=lambda j: 0 if j[0] in first else 1 if j in slow[:2] else
                  3 if j in slow else 2)
    print('seed %d, %d cells, each three ways%s' %
          (opt.seed, len(ALL), '' if opt.long else '; a sample of them'), flush=True)
    bad, ok, left = 0, 0, 0
    nots, notes, slow = collections.Counter(), collections.Counter(), []
    for why in [w for _, w in IMPOSSIBLE] + list(vmdk.NOT_HERE.values()):
        nots[why] += 3
    end = time.monotonic() + opt.budget

    def in_time():
        nonlocal left
        for i, j in enumerate(jobs):
            room.acquire()
            if opt.budget and time.monotonic() > end:
                left = len(jobs) - i
                return
            yield j
    room = threading.Semaphore(opt.jobs)    # none is begun before it is its turn
    with Pool(opt.jobs, maxtasksperchild=50) as pool:
        for r in pool.imap_unordered(one, in_time()):
            room.release()
            name, way, result, words, why, tail, secs = r
            notes.update(why)
            slow.append((secs, name + '/' + way))
            if result == 'ok':
                ok += 1
                if opt.only:
                    print('ok: %s/%s (%.1f s)' % (name, way, secs))
            elif result == 'not':
                nots[words] += 1
            else:
                bad += 1
                print('WRONG: %s/%s: %s' % (name, way, words))
                print('\n'.join('    | ' + t for t in tail.splitlines()), flush=True)
    for why, n in sorted(nots.items()):
        print('not run: %d: %s' % (n, why))
    for why, n in sorted(notes.items()):
        print('in part: %d: %s' % (n, why))
    if left:
        print('not tried: %d: a short run has %d s (LONG=1: all)' % (left, opt.budget))
    print('slowest: ' + ', '.join('%s %.1f s' % (n, s) for s, n in sorted(slow)[:-6:-1]))
    print('%d ways right, %d wrong, %d not run' % (ok, bad, sum(nots.values())))
    return 1 if bad or not ok else 0


p = argparse.ArgumentParser()
p.add_argument('dir')
p.add_argument('--long', action='store_true')
p.add_argument('--seed', type=int, default=1)
p.add_argument('--jobs', type=int, default=2)
p.add_argument('--budget', type=float, default=0)
p.add_argument('--product', type=int, default=60)
p.add_argument('--only', default='')
p.add_argument('--keep', action='store_true')
p.add_argument('--list', action='store_true')
p.add_argument('--self', action='store_true')
opt = p.parse_args()
opt.dir = os.path.abspath(opt.dir)
ALL, IMPOSSIBLE = cells(random.Random(opt.seed), opt.product)
TYPES = set() if opt.self else features()
if opt.self:
    ways.Ours = sides.Qemu
if opt.list:
    print('\n'.join(ALL))
    sys.exit(0)
sys.exit(main())
