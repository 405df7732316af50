"""results.json, results.md and results.svg of the measurements."""
import html
import json
import statistics


def quartiles(values):
    """min, first quartile, median, third quartile, max."""
    v = sorted(values)
    if len(v) == 1:
        return v * 5
    q = statistics.quantiles(v, n=4, method="inclusive")
    return [v[0], q[0], q[1], q[2], v[-1]]


def number(v):
    if v is None:
        return ""
    if abs(v) >= 1000:
        return f"{v:,.0f}"
    return f"{v:.2f}" if abs(v) < 10 else f"{v:.1f}"


def claims_table(claims):
    out = ["| claim | image | job | measured | target | met | pairs | spread "
           "(min, quartiles, max) |", "|---|---|---|---|---|---|---|---|"]
    for c in claims:
        q = c["spread"]
        out.append(f"| {c['name']} | {c['image']} | {c['job']} | "
                   f"**{number(c['value'])}** | {c['target']} | "
                   f"{'yes' if c['met'] else 'NO'} | {c['pairs']} | "
                   f"{number(q[0])} {number(q[1])} .. {number(q[3])} "
                   f"{number(q[4])} |")
    return "\n".join(out)


def _cells(results, image):
    """(jobs, targets, {(job, target): medians})"""
    jobs, targets, cell = [], [], {}
    for r in results:
        if r["image"] != image:
            continue
        if r["job"] not in jobs:
            jobs.append(r["job"])
        if r["target"] not in targets:
            targets.append(r["target"])
        cell[r["job"], r["target"]] = r["median"]
    return jobs, targets, cell


def figures_table(results, image, key, scale=1.0):
    jobs, targets, cell = _cells(results, image)
    out = ["| job | " + " | ".join(targets) + " |",
           "|---|" + "---|" * len(targets)]
    for j in jobs:
        row = []
        for t in targets:
            m = cell.get((j, t))
            v = m.get(key) if m else None
            row.append(number(v / scale) if v else "")
        out.append(f"| {j} | " + " | ".join(row) + " |")
    return "\n".join(out)


def markdown(data):
    out = ["# Speed", "", data["machine"], "",
           "How this is measured: bench/README.md.  Medians; a ratio is the "
           "median of the ratios of pairs.", "", "## Claims", "",
           claims_table(data["claims"])]
    for image in data["images"]:
        for title, key, scale in (
                ("thousand requests per second", "iops", 1000),
                ("MB/s", "mb_s", 1), ("mean latency, us", "lat_us", 1),
                ("99th percentile of latency, us", "p99_us", 1),
                ("server's CPU per request, us", "server_cpu_us", 1),
                ("server's system calls per request", "syscalls", 1)):
            out += ["", f"## Image on {image}: {title}", "",
                    figures_table(data["results"], image, key, scale)]
    for title, text in data.get("more", []):
        out += ["", f"## {title}", "", text]
    if data["skipped"]:
        out += ["", "## Skipped", ""] + [f"- SKIP: {s}" for s in data["skipped"]]
    return "\n".join(out) + "\n"


# The picture: for each image and direction, bars of the targets by depth.

COLOURS = ("#4c566a", "#2e7d32", "#66bb6a", "#1565c0", "#64b5f6", "#ef6c00",
           "#ad1457", "#8d6e63", "#9e9d24", "#00838f", "#6a1b9a", "#c62828")
PANEL_W, PANEL_H, LEFT, TOP = 560, 250, 60, 40


def _panel(x, y, title, jobs, targets, cell, colour):
    top = max([cell[j, t]["iops"] for j in jobs for t in targets
               if (j, t) in cell] or [1]) / 1000
    out = [f'<text x="{x + LEFT}" y="{y + 22}" class="title">'
           f'{html.escape(title)}</text>']
    plot_h, plot_w = PANEL_H - TOP - 40, PANEL_W - LEFT - 20
    base = y + TOP + plot_h
    for i in range(5):
        v = top * i / 4
        gy = base - plot_h * i / 4
        out.append(f'<line x1="{x + LEFT}" y1="{gy:.1f}" x2="{x + LEFT + plot_w}" '
                   f'y2="{gy:.1f}" class="grid"/><text x="{x + LEFT - 6}" '
                   f'y="{gy + 4:.1f}" class="axis" text-anchor="end">'
                   f'{v:.0f}k</text>')
    group = plot_w / max(1, len(jobs))
    bar = group * 0.85 / max(1, len(targets))
    for g, j in enumerate(jobs):
        gx = x + LEFT + g * group + group * 0.07
        for b, t in enumerate(targets):
            m = cell.get((j, t))
            if not m:
                continue
            h = plot_h * m["iops"] / 1000 / top
            out.append(f'<rect x="{gx + b * bar:.1f}" y="{base - h:.1f}" '
                       f'width="{bar * 0.9:.1f}" height="{h:.1f}" '
                       f'fill="{colour[t]}"><title>{html.escape(t)}: '
                       f'{m["iops"] / 1000:.1f}k</title></rect>')
        depth = j.rsplit(" ", 1)[-1]
        out.append(f'<text x="{gx + group * 0.42:.1f}" y="{base + 18}" '
                   f'class="axis" text-anchor="middle">depth {depth}</text>')
    return out


def svg(data):
    panels, names = [], []
    for image in data["images"]:
        jobs, targets, cell = _cells(data["results"], image)
        names += [t for t in targets if t not in names]
        for rw in ("randread", "randwrite"):
            mine = [j for j in jobs if j.startswith(rw + " 4k")]
            if mine:
                panels.append((f"{rw} 4k, image on {image}: requests per second",
                               mine, [t for t in targets if
                                      any((j, t) in cell for j in mine)], cell))
    colour = {t: COLOURS[i % len(COLOURS)] for i, t in enumerate(names)}
    rows = (len(panels) + 1) // 2
    legend_rows = (len(names) + 3) // 4
    width, height = 2 * PANEL_W, rows * PANEL_H + 30 + 22 * legend_rows
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'width="{width}" height="{height}">',
           "<style>text{font-family:sans-serif;fill:#222}.title{font-size:15px;"
           "font-weight:bold}.axis{font-size:12px}.grid{stroke:#ddd}</style>",
           f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for i, (title, jobs, targets, cell) in enumerate(panels):
        out += _panel(i % 2 * PANEL_W, i // 2 * PANEL_H, title, jobs, targets,
                      cell, colour)
    for i, t in enumerate(names):
        lx, ly = LEFT + i % 4 * 270, rows * PANEL_H + 20 + i // 4 * 22
        out.append(f'<rect x="{lx}" y="{ly - 11}" width="14" height="14" '
                   f'fill="{colour[t]}"/><text x="{lx + 20}" y="{ly + 1}" '
                   f'class="axis">{html.escape(t)}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def write(data, folder):
    for name, text in (("results.json", json.dumps(data, indent=1) + "\n"),
                       ("results.md", markdown(data)), ("results.svg", svg(data))):
        with open(f"{folder}/{name}", "w") as f:
            f.write(text)
