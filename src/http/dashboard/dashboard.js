
/*
 * Polls the /stats of each store once a second and shows what they say: the
 * state, what to do about it, warnings, charts of the differences between two
 * polls, figures.  It writes nothing to the server.
 *
 * Keys and values are whatever clients stored.  They are shown as text only
 * (textContent), and of a value at most the first 64 KiB are loaded.
 */

(function () {
"use strict";


const POLL = 1000;                  // ms between two polls,
const POLL_HIDDEN = 10000;          // while nobody looks,
const POLL_OTHERS = 5000;           // and of stores that are not shown
const TIMEOUT = 5000;               // ms, of a poll
const KEEP = 600;                   // seconds of history
const VALUE_MAX = 65536;            // bytes of a value that are loaded
const PAGE = 100;                   // keys on a page


const $ = (id) => document.getElementById(id);

const stores = [...document.querySelectorAll("meta[name=kv-store]")].map(
    (meta) => ({
        name: meta.content,
        stats: meta.dataset.stats,
        keys: meta.dataset.keys,
        values: meta.dataset.values,
        polled: -Infinity,          // when a poll began; performance.now(),
        seen: 0,                    // and when its answer came
        answer: null,               // the last that came
        rates: null,                // between the last two
        trouble: null,              // why there is no newer one
        state: "",
        since: 0,
        grown: {},                  // alert -> when its counter last grew
        times: [],                  // history: seconds since 1970,
        values_of: {},              // series -> a value for each of them
    }));

let shown = stores[0];


// ---- small things

function element(name, text, kind)
{
    const e = document.createElement(name);

    if (text !== undefined) {
        e.textContent = text;
    }

    if (kind) {
        e.className = kind;
    }

    return e;
}


function pair(name, text, kind)
{
    const div = element("div");

    div.append(element("dt", name, kind), element("dd", text));

    return div;
}


// Changes what is there only if it is another: a reader of the screen says what
// changes, and a text that was selected stays so.

function say(e, text)
{
    if (e.textContent !== text) {
        e.textContent = text;
    }
}


function replace(e, children)
{
    const now = element("div");

    now.append(...children);

    if (now.innerHTML !== e.innerHTML) {
        e.replaceChildren(...now.childNodes);
    }
}


function at(object, path)
{
    return path.split(".").reduce((o, name) => o?.[name], object);
}


// ---- how figures are written

function count(n)
{
    return Math.round(n).toLocaleString("en");
}


function short(n)
{
    const units = ["", "k", "M", "G", "T"];
    let i = 0;

    for (; n >= 1000 && i < units.length - 1; i++) {
        n /= 1000;
    }

    return (n >= 100 || n === Math.round(n) ? Math.round(n) : n.toPrecision(2))
           + units[i];
}


function rate(n)
{
    return n > 0 && n < 10 ? n.toFixed(1) : count(n);
}


function bytes(n)
{
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let i = 0;

    for (; n >= 1024 && i < units.length - 1; i++) {
        n /= 1024;
    }

    return (i && n < 100 ? n.toFixed(1) : Math.round(n)) + " " + units[i];
}


function micros(us)
{
    if (us < 1000) {
        return Math.round(us) + " us";
    }

    return us < 1e6 ? (us / 1000).toPrecision(3) + " ms"
                    : (us / 1e6).toPrecision(3) + " s";
}


function age(seconds)
{
    const units = [["day", 86400], ["hour", 3600], ["minute", 60]];

    for (const [unit, length] of units) {
        if (seconds >= length) {
            const n = Math.floor(seconds / length);
            return `${n} ${unit}${n === 1 ? "" : "s"}`;
        }
    }

    return `${Math.max(0, Math.round(seconds))} s`;
}


function percent(part, whole)
{
    return whole ? Math.round(100 * part / whole) + " %" : "-";
}


// ---- from counts to rates and quantiles

function rows(answer)
{
    const all = [];

    for (const [route, methods] of Object.entries(answer.routes)) {
        for (const [method, row] of Object.entries(methods)) {
            all.push({ route, method, row });
        }
    }

    return all;
}


// Requests by class of status; without what watches the store.

function classes(answer)
{
    const sum = { good: 0, refused: 0, failed: 0 };

    for (const { route, row } of rows(answer)) {
        if (route === "stats" || route === "health") {
            continue;
        }

        for (const [status, n] of Object.entries(row.status)) {
            sum[/^[23]/.test(status) ? "good"
                : /^5/.test(status) ? "failed" : "refused"] += n;
        }
    }

    return sum;
}


// What fell into each step of a histogram since the one before.

function grown(next, prev)
{
    return next?.count.map((n, i) => n - (prev?.count[i] ?? 0));
}


function sum_of(histograms)
{
    const all = histograms.filter((h) => h);

    return all.length
           ? { le: all[0].le,
               count: all[0].count.map((_, i) =>
                          all.reduce((n, h) => n + h.count[i], 0)) }
           : undefined;
}


// As Prometheus' histogram_quantile() does: evenly spread within a step.

function quantile(q, le, counts)
{
    const rank = q * counts[counts.length - 1];

    if (!(rank > 0)) {
        return null;
    }

    const i = counts.findIndex((n) => n >= rank);

    if (i >= le.length) {
        return le[le.length - 1];
    }

    const low = i ? le[i - 1] : 0;
    const below = i ? counts[i - 1] : 0;

    return low + (le[i] - low) * (rank - below) / (counts[i] - below);
}


function quantiles(name, next, prev, into)
{
    const counts = grown(next, prev);

    into[name + "_50"] = counts ? quantile(.5, next.le, counts) : null;
    into[name + "_99"] = counts ? quantile(.99, next.le, counts) : null;
}


function latency(answer, wanted)
{
    return sum_of(rows(answer).filter(({ route, method }) =>
                      wanted.includes(`${route} ${method}`))
                  .map(({ row }) => row.histogram));
}

const READS = ["kv GET", "kv HEAD"];
const WRITES = ["kv PUT", "kv POST", "kv DELETE", "batch POST"];


// What the charts show of the time between two answers; null: nginx was started
// between them, and counts began anew.

function rates(next, prev, seconds)
{
    const now = classes(next), then = classes(prev);
    const commit = next.store.commit, before = prev.store.commit;
    const per = (a, b) => (a - b) / seconds;

    if (commit.batches < before.batches || now.good < then.good
        || now.refused < then.refused || now.failed < then.failed)
    {
        return null;
    }

    const batches = commit.batches - before.batches;
    const store = next.store;

    const r = {
        good: per(now.good, then.good),
        refused: per(now.refused, then.refused),
        failed: per(now.failed, then.failed),
        batch: batches ? (commit.operations - before.operations) / batches
                       : null,
        written: per(store.log.written, prev.store.log.written),
        used: store.zone.used,
        size: store.zone.size,
        keys: store.keys,
        readers: store.readers.bytes,
        uploads: store.uploads.bytes,
    };

    quantiles("read", latency(next, READS), latency(prev, READS), r);
    quantiles("write", latency(next, WRITES), latency(prev, WRITES), r);
    quantiles("sync", commit.sync_us.histogram, before.sync_us.histogram, r);
    quantiles("batch", commit.batch.histogram, before.batch.histogram, r);

    return r;
}


function remember(store, r)
{
    const now = Date.now() / 1000;
    const old = store.times.findIndex((t) => t > now - KEEP);
    const drop = old < 0 ? store.times.length : old;

    store.times.splice(0, drop);
    store.times.push(now);

    for (const { series } of CHARTS) {
        for (const { key } of series) {
            const values = store.values_of[key] ??= [];

            values.splice(0, drop);
            values.push(r?.[key] ?? null);
        }
    }
}


// ---- the charts

const BINARY = [...Array(50).keys()].map((n) => 2 ** n);

const CHARTS = [
    { title: "Requests", unit: "a second", show: rate, series: [
        { key: "good", label: "2xx, 3xx", color: "good" },
        { key: "refused", label: "4xx", color: "two" },
        { key: "failed", label: "5xx", color: "bad" } ] },
    { title: "Time of a request", unit: "", show: micros, log: true, series: [
        { key: "read_50", label: "read p50", color: "one", dashed: true },
        { key: "read_99", label: "read p99", color: "one" },
        { key: "write_50", label: "write p50", color: "two", dashed: true },
        { key: "write_99", label: "write p99", color: "two" } ] },
    { title: "Time of a sync of the log", unit: "", show: micros, log: true,
      series: [
        { key: "sync_50", label: "p50", color: "three", dashed: true },
        { key: "sync_99", label: "p99", color: "three" } ] },
    { title: "Writes in a batch", unit: "", show: rate, series: [
        { key: "batch", label: "mean", color: "one" },
        { key: "batch_99", label: "p99", color: "two", dashed: true } ] },
    { title: "Zone", unit: "memory", show: bytes, incrs: BINARY, series: [
        { key: "used", label: "used", color: "one" },
        { key: "size", label: "size", color: "bad", dashed: true } ] },
    { title: "Log", unit: "written a second", show: bytes, incrs: BINARY,
      series: [
        { key: "written", label: "written", color: "one" } ] },
    { title: "Keys", unit: "", show: count, axis: short, series: [
        { key: "keys", label: "keys", color: "one" } ] },
    { title: "Memory that slow clients hold", unit: "", show: bytes,
      incrs: BINARY, series: [
        { key: "readers", label: "readers", color: "two" },
        { key: "uploads", label: "uploads", color: "three" } ] },
];


function color(name)
{
    return () => getComputedStyle(document.documentElement)
                     .getPropertyValue("--" + name).trim();
}


function range_linear(u, min, max)
{
    return [0, max > 0 ? max * 1.1 : 1];
}


function range_log(u, min, max)
{
    const low = min > 0 ? 10 ** Math.floor(Math.log10(min)) : 10;
    const high = max > 0 ? 10 ** Math.ceil(Math.log10(max)) : 10000;

    return [low, Math.max(high, low * 10)];
}


function powers_of_ten(u, axis, min, max)
{
    const powers = [];

    for (let n = Math.round(Math.log10(min)); 10 ** n <= max; n++) {
        powers.push(10 ** n);
    }

    return powers;
}


// A fresh page shows a minute, later it shows all that it has seen.

function range_time(u, min, max)
{
    const now = max ?? Date.now() / 1000;

    return [Math.min(min ?? now, now - 60), now];
}


// The values that no line leads to or from.

function alone(u, series)
{
    const values = u.data[series];

    return [...values.keys()].filter((i) => values[i] !== null
               && (values[i - 1] ?? null) === null
               && (values[i + 1] ?? null) === null);
}


function axis(more)
{
    return {
        stroke: color("muted"),
        font: "12px system-ui, sans-serif",
        grid: { stroke: color("line"), width: 1 },
        ticks: { stroke: color("line"), width: 1, size: 4 },
        ...more,
    };
}


function make_chart(chart)
{
    const figure = element("section");
    const title = element("h3", chart.title + " ");

    chart.plot = element("div", undefined, "plot");
    chart.plot.setAttribute("role", "img");
    chart.now = element("dl", undefined, "now");

    title.append(element("small", chart.unit));
    figure.append(title, chart.plot, chart.now);
    $("charts").append(figure);

    chart.plotted = new uPlot({
        width: 300,
        height: 150,
        legend: { show: false },
        cursor: { sync: { key: "kv" }, drag: { x: false, y: false } },
        scales: {
            x: { time: true, range: range_time },
            y: chart.log ? { distr: 3, range: range_log }
                         : { range: range_linear },
        },
        axes: [
            axis({ space: 70, size: 26 }),
            axis({ size: 66, space: 32, incrs: chart.incrs,
                   splits: chart.log ? powers_of_ten : undefined,
                   filter: (u, splits) => splits,
                   values: (u, splits) => splits.map(chart.axis
                                                     ?? chart.show) }),
        ],
        series: [{}, ...chart.series.map((s) => ({
            label: s.label,
            stroke: color(s.color),
            width: 2,
            dash: s.dashed ? [3, 3] : undefined,
            points: { show: true, size: 4, filter: alone },
        }))],
        hooks: { setCursor: [() => show_values(chart)] },
    }, [[], ...chart.series.map(() => [])], chart.plot);

    new ResizeObserver(([entry]) => chart.plotted.setSize({
        width: Math.max(100, Math.floor(entry.contentRect.width)),
        height: 150,
    })).observe(chart.plot);
}


// The values under the pointer, or the last ones.

function show_values(chart)
{
    const last = shown.times.length - 1;
    const i = Math.min(chart.plotted?.cursor.idx ?? last, last);

    const texts = chart.series.map(({ key }) => {
        const value = shown.values_of[key]?.[i];
        return value === undefined || value === null ? "-" : chart.show(value);
    });

    replace(chart.now, chart.series.map((s, n) =>
        pair(s.label, texts[n], s.color + (s.dashed ? " dashed" : ""))));

    chart.plot.setAttribute("aria-label", `${chart.title} ${chart.unit}: `
        + chart.series.map((s, n) => `${s.label} ${texts[n]}`).join(", "));
}


function draw_charts()
{
    for (const chart of CHARTS) {
        chart.plotted.setData([shown.times, ...chart.series.map(
            ({ key }) => shown.values_of[key] ?? [])]);
        show_values(chart);
    }
}


// ---- the state, and what to do first

// What the tables at the end of the page say, which are those of our manual.

function table_row(table, column, text)
{
    return [...$(table).querySelectorAll("tbody tr")].find((row) =>
        [...row.cells[column].querySelectorAll("code")]
            .some((code) => code.textContent === text));
}


const LEVELS = { "ready": "good", "disk full": "warn", "refusing": "warn",
                 "recovering": "warn" };

function level(store)
{
    if (store.trouble) {
        return "bad";
    }

    return store.answer ? LEVELS[store.state] ?? "bad" : "";
}


function word(store)
{
    return store.trouble?.word ?? (store.state || "asking");
}


function show_state()
{
    const row = table_row("states", 0, shown.state);
    const facts = [];
    let why = "", first = [];

    if (shown.trouble) {
        why = shown.trouble.why;
        first = [shown.trouble.first];

        if (shown.answer) {
            facts.push(pair("Before that", shown.state));
        }

    } else if (row) {
        const cell = [...row.cells].map((c) => c.textContent);

        why = cell[0].split(": ")[1] ?? "";
        first = [...row.cells[5].cloneNode(true).childNodes];
        facts.push(pair("Reads", cell[1]), pair("Writes", cell[2]),
                   pair("/health", cell[3]));

        if (cell[4]) {
            facts.push(pair("It ends", cell[4]));
        }

    } else if (shown.state) {
        why = "This page does not know the state.";
    }

    if (shown.since) {
        facts.push(pair("For", age((performance.now() - shown.since) / 1000)
                               + ", as far as this page has seen"));
    }

    $("state").className = "state " + level(shown);
    say($("state-store"), shown.name);
    say($("state-name"), word(shown));
    say($("state-why"), why);
    replace($("state-first"),
            first.length ? [element("strong", "Do first: "), ...first] : []);
    replace($("state-facts"), facts);
}


function show_stores()
{
    const order = ["bad", "warn", "", "good"];
    const worst = [...stores].sort((a, b) =>
        order.indexOf(level(a)) - order.indexOf(level(b)))[0];

    document.title = word(worst) + (stores.length > 1 ? `: ${worst.name}` : "")
                     + " - kv";

    stores.forEach((store, i) => {
        const button = $("stores").children[i];

        button.setAttribute("aria-pressed", store === shown);
        say(button.firstChild, store.name + " ");
        say(button.lastChild, word(store));
        button.lastChild.className = level(store);
    });
}


// What the table of alerts has a row for: `row` is what that names. `is` says
// it now; `grew` is a counter of events since nginx was started.

const ALERTS = [
    { row: "zone.used", is: (s) => s.zone.used > .75 * s.zone.size
        && `${percent(s.zone.used, s.zone.size)} of the zone is used` },
    { row: "zone.refused", grew: "zone.refused",
      what: ["write was", "writes were"],
      more: "refused because the zone is full" },
    { row: "uploads.evicted", grew: "uploads.evicted",
      what: ["slow upload was", "slow uploads were"], more: "cut off" },
    { row: "readers.evicted", grew: "readers.evicted",
      what: ["slow reader was", "slow readers were"], more: "cut off" },
    { row: "disk.available", is: (s) => s.disk.size > 0
        && s.disk.available < 2 * s.bytes + 2 ** 30
        && `the disk has ${bytes(s.disk.available)} left` },
    { row: "archive.failed", grew: "archive.failed",
      what: ["try", "tries"], more: "to archive failed" },
    { row: "archive.gaps", grew: "archive.gaps",
      what: ["gap", "gaps"], more: "arose in the archive" },
    { row: "snapshots.failed", grew: "snapshots.failed",
      what: ["snapshot", "snapshots"], more: "failed" },
    { row: "recovery.rebuilds", grew: "recovery.rebuilds",
      what: ["time", "times"], more: "the zone was rebuilt from disk" },
];


function note_growth(store, next, prev)
{
    for (const { grew } of ALERTS) {
        if (grew && at(next.store, grew) > at(prev.store, grew)) {
            store.grown[grew] = performance.now();
        }
    }
}


function warnings(store)
{
    const list = [];

    for (const alert of ALERTS) {
        const n = alert.grew ? at(store.answer.store, alert.grew) : 0;
        const last = store.grown[alert.grew];
        const what = alert.grew
            ? n > 0 && `${count(n)} ${alert.what[n === 1 ? 0 : 1]} `
                + `${alert.more}, since nginx was started; `
                + (last ? "the last one "
                          + age((performance.now() - last) / 1000) + " ago"
                        : "none since this page was opened")
            : alert.is(store.answer.store);

        if (!what) {
            continue;
        }

        const li = element("li", undefined,
                           !alert.grew || last ? "warn" : "past");
        const row = table_row("alerts", 0, alert.row);

        li.append(element("strong", what));
        li.append(...row.cells[2].cloneNode(true).childNodes);
        list.push(li);
    }

    return list;
}


function show_warnings()
{
    const list = shown.answer ? warnings(shown) : [];

    replace($("warnings"), list.length ? list
                           : [element("li", shown.answer ? "None." : "-")]);
}


// ---- figures

const ago = (time, s) => time > 0 ? age(s.time - time) + " ago" : "none";
const left_of = (disk) => disk.size > 0 ? `${bytes(disk.available)}, `
    + percent(disk.available, disk.size) : undefined;

const FIGURES = {
    "Data": [
        ["keys", (s) => count(s.keys)],
        ["keys and values", (s) => bytes(s.bytes)],
        ["keys that expire", (s) => count(s.expiring)],
        ["expired", (s) => count(s.expired)],
        ["reads that wait", (s) => count(s.waiting)],
        ["watches", (s) => s.feed.size > 0 ? count(s.watching) : undefined],
    ],
    "Zone": [
        ["size", (s) => bytes(s.zone.size)],
        ["used", (s) => `${bytes(s.zone.used)}, `
                        + percent(s.zone.used, s.zone.size)],
        ["of that for lists", (s) => bytes(s.zone.index)],
        ["free pages", (s) => bytes(s.zone.free_pages * 65536)],
        ["holes in pages", (s) => `${bytes(s.zone.held - s.zone.used)}, `
                                  + percent(s.zone.fragmentation, 1)],
        ["writes refused", (s) => count(s.zone.refused)],
    ],
    "Disk": [
        ["log segments", (s) => count(s.log.segments)],
        ["log written", (s) => bytes(s.log.written)],
        ["oldest write not synced", (s) => `${count(s.log.unsynced_ms)} ms`],
        ["last durable write", (s) => count(s.log.durable_lsn)],
        ["space left", (s) => left_of(s.disk)],
    ],
    "Archive": [
        ["all up to write", (s) => s.archive && count(s.archive.lsn)],
        ["segments that wait for it",
         (s) => s.archive && count(s.archive.waiting)],
        ["gaps", (s) => s.archive && count(s.archive.gaps)],
        ["tries that failed", (s) => s.archive && count(s.archive.failed)],
        ["space left", (s) => s.archive && left_of(s.archive.disk)],
    ],
    "Backups": [
        ["last", (s) => ago(s.backups.last_time, s)],
        ["under way", (s) => count(s.backups.running)],
        ["taken", (s) => count(s.backups.completed)],
        ["broken off", (s) => count(s.backups.failed)],
    ],
    "Snapshots": [
        ["last", (s) => ago(s.snapshots.last_success, s)],
        ["its size", (s) => s.snapshots.last_bytes > 0
                            ? bytes(s.snapshots.last_bytes) : undefined],
        ["it took", (s) => s.snapshots.last_bytes > 0
                           ? `${count(s.snapshots.last_ms)} ms` : undefined],
        ["log since then", (s) => bytes(s.snapshots.log_bytes)],
        ["taken", (s) => count(s.snapshots.completed)],
        ["failed", (s) => count(s.snapshots.failed)],
        ["last failure", (s) => ago(s.snapshots.last_failure, s)],
    ],
    "Slow clients": [
        ["readers hold", (s) => `${bytes(s.readers.bytes)} of `
                                + bytes(s.readers.limit)],
        ["readers cut off", (s) => count(s.readers.evicted)],
        ["uploads hold", (s) => `${bytes(s.uploads.bytes)} of `
                                + bytes(s.uploads.limit)],
        ["uploads cut off", (s) => count(s.uploads.evicted)],
    ],
    "Starts": [
        ["last recovery", (s) => ago(s.recovery.last, s)],
        ["it took", (s) => `${count(s.recovery.ms)} ms`],
        ["records read", (s) => count(s.recovery.snapshot_records
                                      + s.recovery.log_records)],
        ["rebuilds", (s) => count(s.recovery.rebuilds)],
        ["reloads refused", (s) => count(s.reloads.refused)],
    ],
};


function show_figures()
{
    const store = shown.answer?.store;

    if (!store) {
        $("figures").replaceChildren();
        return;
    }

    replace($("figures"), Object.entries(FIGURES).map(([title, figures]) => {
        const section = element("section");
        const list = element("dl", undefined, "list");

        for (const [name, show] of figures) {
            const text = show(store);

            if (text !== undefined) {
                list.append(pair(name, text));
            }
        }

        section.append(element("h3", title), list);
        return section;
    }).filter((section) => section.querySelector("dd")));
}


function show_requests()
{
    const { answer, before, seconds } = shown;

    if (!answer) {
        $("requests").replaceChildren();
        return;
    }

    replace($("requests"), rows(answer).map(({ route, method, row }) => {
        const tr = element("tr");
        const past = before?.routes[route]?.[method];
        const counts = grown(row.histogram, past?.histogram);
        const name = element("th", `${method} ${route}`);

        name.scope = "row";
        tr.append(name,
                  element("td", before
                          ? rate((row.requests - (past?.requests ?? 0))
                                 / seconds) : "-", "n"),
                  element("td", count(row.requests), "n"));

        for (const q of [.5, .99]) {
            const us = counts ? quantile(q, row.histogram.le, counts) : null;
            tr.append(element("td", us === null ? "-" : micros(us), "n"));
        }

        tr.append(element("td", Object.entries(row.status).map(
            ([status, n]) => `${status}: ${count(n)}`).join(", ")));
        return tr;
    }));
}


function show()
{
    show_stores();
    show_state();
    show_warnings();
    show_figures();
    show_requests();
    draw_charts();

    say($("clock"), shown.seen && shown.answer
        ? "as of " + new Date(Date.now() - performance.now() + shown.seen)
                         .toLocaleTimeString() : "");
}


// ---- polling

async function poll(store)
{
    let answer = null, trouble = null;

    store.polled = performance.now();

    try {
        const response = await fetch(store.stats, {
            cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });

        if (response.ok) {
            answer = await response.json();
        } else {
            trouble = refused(store, response.status);
        }

    } catch (error) {
        trouble = {
            word: "no answer",
            why: path(store.stats) + (error.name === "SyntaxError"
                 ? " is answered with something else than figures."
                 : " is not answered: nginx is down, hangs, or cannot be "
                   + "reached."),
            first: "look whether nginx runs, and into its error log",
        };
    }

    take(store, answer, trouble);
}


function refused(store, status)
{
    const why = `${path(store.stats)} is answered with ${status}`;

    return status === 401 || status === 403
           ? { word: "not allowed",
               why: why + ": this browser may not read it.",
               first: "look at this page from where that is allowed; the state "
                      + "of the store is not known" }
           : { word: "no figures", why: why + ".",
               first: "look into nginx's error log" };
}


function path(address)
{
    return new URL(address, document.baseURI).pathname;
}


function take(store, answer, trouble)
{
    const now = performance.now();
    const before = store.answer;
    const was = word(store);

    store.trouble = trouble;
    store.before = null;

    if (answer) {
        const seconds = answer.store.time - (before?.store.time ?? 0);
        const r = before && seconds > 0 ? rates(answer, before, seconds) : null;

        if (r) {
            store.before = before;
            store.seconds = seconds;
            note_growth(store, answer, before);
        }

        store.answer = answer;
        store.state = answer.store.state;
        store.seen = now;

        if (before) {
            remember(store, r);
        }

    } else {
        remember(store, null);
    }

    if (word(store) !== was) {
        store.since = now;
    }
}


let timer, polling;

async function tick()
{
    if (polling) {
        return;
    }

    polling = true;
    clearTimeout(timer);

    const now = performance.now();
    const due = stores.filter((store) => store === shown || store.trouble
                              || now - store.polled >= POLL_OTHERS);

    await Promise.all(due.map(poll));
    show();

    polling = false;
    timer = setTimeout(tick, Math.max(0, now - performance.now()
                                         + (document.hidden ? POLL_HIDDEN
                                                            : POLL)));
}


// ---- keys and a value

let listed = null;                  // what "More keys" goes on with
let open = null;                    // the value that is shown


function show_browser()
{
    const off = !shown.keys
        ? "Keys are not listed here: that takes list=on in kv_zone, and a "
          + "location with kv_keys in this server." : "";

    say($("keys-off"), off + (shown.values ? ""
        : " Values are not shown: that takes a location with kv."));
    $("list").disabled = !shown.keys;
    $("look").disabled = !shown.values;
    $("keys").replaceChildren();
    $("more").hidden = true;
    say($("keys-said"), "");
    $("value").hidden = true;
}


async function get(address, options)
{
    const response = await fetch(address, {
        cache: "no-store", signal: AbortSignal.timeout(TIMEOUT), ...options });

    if (!response.ok) {
        const said = response.headers.get("Content-Type")
                         ?.startsWith("text/plain")
                     ? await first_bytes(response, 200) : new Uint8Array();

        throw new Error(`${response.status} `
                        + new TextDecoder().decode(said).trim());
    }

    return response;
}


// A key, or what keys have in common: its text, and how an address has it.
// What is no UTF-8 comes in base64, and its text is as in an address.

function name_of(object, member)
{
    const text = object[member];

    return text !== undefined
           ? { text, address: encodeURIComponent(text) }
           : name_of_bytes(atob(object[member + "_base64"]));
}


function name_of_bytes(bytes)
{
    const address = bytes.replace(/[^A-Za-z0-9_.~-]/g, (c) =>
        "%" + c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0"));

    return { text: address, address };
}


// In an address "+" is no blank here, as URLSearchParams would have it.

async function list_keys(after)
{
    const store = shown;
    const args = ["format=json", `limit=${PAGE}`];

    if (after === undefined) {
        listed = { prefix: $("prefix").value, delimiter: $("delimiter").value };
        $("keys").replaceChildren();
    } else {
        args.push("after=" + after);
    }

    for (const name of ["prefix", "delimiter"]) {
        if (listed[name]) {
            args.push(`${name}=${encodeURIComponent(listed[name])}`);
        }
    }

    $("more").hidden = true;

    try {
        const response = await get(`${store.keys}?${args.join("&")}`);
        const page = await response.json();

        if (store === shown) {
            show_page(page);
        }

    } catch (error) {
        say($("keys-said"), "No list: " + error.message);
    }
}


function show_page(page)
{
    const entries = [
        ...(page.prefixes ?? []).map((prefix) => ({ prefix,
            name: name_of({ prefix }, "prefix") })),
        ...(page.prefixes_base64 ?? []).map((prefix_base64) => ({ prefix: null,
            name: name_of({ prefix_base64 }, "prefix") })),
        ...page.keys.map((key) => ({ size: key.size,
            name: name_of(key, "key") })),
    ].sort(({ name: a }, { name: b }) => a.text < b.text ? -1
                                         : a.text > b.text ? 1 : 0);

    for (const { name, prefix, size } of entries) {
        const li = element("li");
        const button = element("button", visible(name.text));

        button.type = "button";
        button.tabIndex = $("keys").children.length ? -1 : 0;

        if (prefix !== undefined) {
            button.append(element("span", "all of these"));
            button.disabled = prefix === null;  // no text can say it
            button.addEventListener("click", () => {
                $("prefix").value = prefix;
                list_keys();
            });

        } else {
            button.append(element("span", bytes(size)));
            button.addEventListener("click", () => look(name, button));
        }

        li.append(button);
        $("keys").append(li);
    }

    listed.next = page.more ? name_of(page, "next").address : undefined;
    $("more").hidden = !page.more;

    const n = $("keys").children.length;
    say($("keys-said"), n ? `${count(n)} shown`
                            + (page.more ? ", and there are more." : ".")
                          : "No key begins with that.");
}


// The list is one stop of the Tab key; within it the arrows move.

function move_in_list(event)
{
    const buttons = [...$("keys").querySelectorAll("button")];
    const now = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0,
                 End: buttons.length - 1 }[event.key];

    if (buttons[to]) {
        event.preventDefault();
        buttons[now].tabIndex = -1;
        buttons[to].tabIndex = 0;
        buttons[to].focus();
    }
}


// The first bytes of a body; what else comes of it is not read.

async function first_bytes(response, most)
{
    const reader = response.body.getReader();
    const all = new Uint8Array(most);
    let n = 0;

    while (n < most) {
        const { done, value } = await reader.read();

        if (done) {
            break;
        }

        all.set(value.subarray(0, most - n), n);
        n += Math.min(value.length, most - n);
    }

    reader.cancel().catch(() => {});

    return all.subarray(0, n);
}


async function look(name, button)
{
    const store = shown;
    const key = visible(name.text);

    for (const other of $("keys").querySelectorAll("[aria-pressed]")) {
        other.removeAttribute("aria-pressed");
    }

    button?.setAttribute("aria-pressed", "true");

    open = null;
    say($("value-key"), key);
    say($("value-said"), "");
    say($("value-text"), "");
    $("value").hidden = false;

    try {
        const response = await get(store.values + name.address, {
            headers: { Range: `bytes=0-${VALUE_MAX - 1}` } });
        const data = await first_bytes(response, VALUE_MAX);
        const total = response.headers.get("Content-Range")?.split("/")[1]
                      ?? response.headers.get("Content-Length");

        if ($("value-key").textContent === key && store === shown) {
            open = { data, total: Number(total ?? data.length) };
            show_value(response.headers, text_of(data) !== null);
        }

    } catch (error) {
        say($("value-said"), "No value: " + error.message);
    }

    $("value").scrollIntoView({ block: "nearest" });
}


// The text that bytes are, or null.  The last character may be cut off.

function text_of(data)
{
    try {
        return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
                   .decode(data, { stream: data.length === VALUE_MAX });
    } catch {
        return null;
    }
}


// Controls, and what turns the direction of a text, are made visible.

function visible(text)
{
    return text.replace(
        // eslint-disable-next-line no-control-regex
        /[\0-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f]/g,
        (c) => c < " " ? String.fromCharCode(0x2400 + c.charCodeAt(0))
                       : `<U+${c.charCodeAt(0).toString(16)}>`);
}


function hex_of(data)
{
    const lines = [];

    for (let i = 0; i < data.length; i += 16) {
        const line = [...data.subarray(i, i + 16)];

        lines.push(i.toString(16).padStart(6, "0") + "  "
            + line.map((b) => b.toString(16).padStart(2, "0")).join(" ")
                  .padEnd(49)
            + line.map((b) => b > 31 && b < 127 ? String.fromCharCode(b) : ".")
                  .join(""));
    }

    return lines.join("\n");
}


function show_value(headers, text)
{
    const version = headers.get("ETag"), expires = headers.get("Expires");

    say($("value-said"),
        (open.total > open.data.length
         ? `The first ${bytes(open.data.length)} of ${bytes(open.total)}.`
         : `${bytes(open.total)}.`)
        + (version ? ` Version ${version}.` : "")
        + (expires ? ` Expires ${expires}.` : ""));

    for (const radio of $("value-as").querySelectorAll("input")) {
        radio.disabled = radio.value === "text" && !text;
        radio.checked = radio.value === (text ? "text" : "hex");
    }

    show_bytes();
}


function show_bytes()
{
    const hex = $("value-as").querySelector("input:checked").value === "hex";

    $("value-text").className = hex ? "hex" : "";
    say($("value-text"), hex ? hex_of(open.data)
                             : visible(text_of(open.data)));
}


// ---- the page

function choose(store)
{
    shown = store;
    show_browser();
    show();
    tick();
}


function begin()
{
    for (const store of stores) {
        const button = element("button");

        button.type = "button";
        button.append(element("span"), element("span"));
        button.addEventListener("click", () => choose(store));
        $("stores").append(button);
    }

    $("stores").hidden = stores.length < 2;

    CHARTS.forEach(make_chart);
    show_browser();

    $("keys-form").addEventListener("submit", (event) => {
        event.preventDefault();
        list_keys();
    });
    $("look").addEventListener("click", () =>
        look(name_of({ key: $("prefix").value }, "key")));
    $("keys").addEventListener("keydown", move_in_list);
    $("more").addEventListener("click", () => list_keys(listed.next));
    $("value-as").addEventListener("change", () => open && show_bytes());

    document.addEventListener("visibilitychange", tick);
    matchMedia("(prefers-color-scheme: dark)")
        .addEventListener("change", draw_charts);

    show();
    tick();
}


begin();

})();
