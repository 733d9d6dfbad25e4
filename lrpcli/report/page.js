// What the records hold becomes text and parts of addresses, never markup. D is what columns.py packed: D.image and
// D.map are columns; the maps of an image lie side by side from I.first on.
"use strict";
(async () => {
const $ = (id) => document.getElementById(id), root = document.documentElement;
const make = (tag, textContent = "", className = "") => Object.assign(document.createElement(tag), {textContent, className});
const on = (node, kinds, act, how) => kinds.split(" ").forEach((kind) => node.addEventListener(kind, act, how));
const part = (share) => `${100 * share}%`;
const many = (count) => count.toLocaleString("en");
const percent = (share) => share === null ? "" : `${+(100 * share).toFixed(Math.abs(share) < 1 ? 1 : 0)}%`;

async function read() {
  const bytes = Uint8Array.from(atob($("records").textContent), (letter) => letter.charCodeAt(0));
  $("records").textContent = "";
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// Dark and light: the system's, until somebody chooses.
const guarded = (act) => { try { act(); } catch { /* it keeps nothing */ } };
guarded(() => { if (localStorage.lrpTheme) root.dataset.theme = localStorage.lrpTheme; });
function switchTheme() {
  const dark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "")) === "dark";
  root.dataset.theme = dark ? "light" : "dark";
  guarded(() => { localStorage.lrpTheme = root.dataset.theme; });
}

let D;
try { D = await read(); } catch {
  $("tools").hidden = false;
  return $("tools").replaceChildren(make("p", "This browser cannot read the records; only the first images are here."));
}
const I = D.image, M = D.map, S = D.sparse, total = I.n.length;
const end = (i) => I.first[i + 1] ?? M.r.length;
const maps = (i) => Array.from({length: end(i) - I.first[i]}, (_, at) => I.first[i] + at);
const label = (m) => D.labels[M.l[m]];
const said = (m) => `${percent(M.s[m])}${M.k[m] === null ? "" : `, kept ${percent(M.k[m])}`}`;
const runOf = (r) => D.runs.length > 1 ? `${D.runs[r].name}: ` : "";
const escaped = (name) => name.split("/").map(encodeURIComponent).join("/");
const address = (i) => S.address[i] ?? escaped(I.n[i]);
const small = (name) => D.pictures[name] ?? `lrp-report/${name}`;
const named = (i, kind) => small(`${I.id[i].slice(0, 2)}/${I.id[i].slice(2)}-${kind}.webp`);
const thumb = (i, m) => M.pic[m] === 2 ? named(i, D.runs[M.r[m]].key + M.at[m]) : null;
const photoThumb = (i) => I.pt[i] === 2 ? named(i, "p") : null;
const photoFile = (i) => I.p[i] >= 0 ? D.roots[I.p[i]] + escaped(I.n[i]) : S.photo[i] ?? null;
function files(i, m) {
  const at = D.runs[M.r[m]].at;
  if (S.files[m]) return Object.entries(S.files[m]).map(([kind, path]) => [kind, at + path]);
  return D.files[M.f[m]].map(([kind, suffix]) => [kind, at + address(i) + suffix]);
}
const shown = (i, m) => (files(i, m).find(([kind]) => kind === S.shown[m]) ?? [])[1] ?? null;

const ranks = [];
[...D.labels.keys()].sort((a, b) => D.labels[a] < D.labels[b] ? -1 : 1).forEach((l, rank) => { ranks[l] = rank; });

// What is looked at: V.view, the choices of the tools, and of the list the current place.
const V = {view: "gallery", photo: false, group: -1};
let list = [], now = 0, open = -1, cells = new Map(), columns = 1, height = 1, wide = 1, texts;

function searched(i) {
  texts ??= new Array(total);
  return texts[i] ??= [I.n[i], ...maps(i).map(label), S.message[i], D.errors[I.e[i]]]
    .join("\n").toLowerCase();
}
function choose() {
  const words = $("q").value.toLowerCase().split(/\s+/).filter(Boolean), wanted = $("class").value.trim().toLowerCase();
  const bounds = (low, high) => {
    const [from, to] = [$(low).valueAsNumber / 100, $(high).valueAsNumber / 100], any = isNaN(from) && isNaN(to);
    return any ? null : (value) => value !== null && !(value < from) && !(value > to);
  };
  const score = bounds("s0", "s1"), kept = bounds("k0", "k1"), some = wanted || score || kept, status = $("status").value;
  const labels = D.labels.map((text) => text.toLowerCase()), whole = labels.includes(wanted);
  const fits = labels.map((text) => whole ? text === wanted : text.includes(wanted));
  const of = (m) => fits[M.l[m]] && (!score || score(M.s[m])) && (!kept || kept(M.k[m]));
  const pool = V.view === "groups" ? D.groups.keys() : V.group >= 0 ? D.groups[V.group][2] : I.n.keys();
  list = [...pool];
  if (V.view === "groups") {
    list = list.filter((g) => words.every((word) => groupText(D.groups[g]).toLowerCase().includes(word)));
  } else {
    list = list.filter((i) => (V.view !== "failures" || I.s[i] > 1) && (!status || I.s[i] === +status)
      && words.every((word) => searched(i).includes(word)) && (!some || maps(i).some(of)));
    order();
  }
  now = 0;
  scrollTo(0, 0);
  layOut(true);
}
function order() {
  const by = $("sort").value, sign = $("down").ariaPressed === "true" ? -1 : 1;
  const column = {class: M.l.map((l) => ranks[l]), score: M.s, kept: M.k}[by];
  const key = (i) => !column ? (by === "name" ? i : I.s[i]) : I.first[i] < end(i) ? column[I.first[i]] : null;
  const keys = new Map(list.map((i) => [i, key(i)]));
  list.sort((a, b) => {
    const x = keys.get(a), y = keys.get(b);
    return (x === null) - (y === null) || sign * (x - y) || a - b;  // what has no value comes last
  });
}
const groupText = ([t, p, , , , , found]) => found ? `${D.labels[t]}, found` : `${D.labels[t]} taken for ${D.labels[p]}`;

// The list: as tall as all of it, with the cells that can be seen.
const pane = $("list");
function layOut(anew) {
  const rows = V.view === "failures", room = pane.clientWidth;
  columns = rows ? 1 : Math.max(2, Math.min(9, Math.floor(room / 172)));
  const measure = () => {
    wide = (room - 10 * (columns - 1)) / columns;
    height = rows ? 66 : wide + 66;
  };
  for (measure(); columns > 2 && (Math.ceil(innerHeight / height) + 2) * columns > 64; measure()) columns--;
  pane.className = rows ? "live rows" : "live";
  pane.style.height = `${Math.ceil(list.length / columns) * height}px`;
  if (anew) { pane.replaceChildren(); cells.clear(); }
  $("count").textContent = V.view === "groups" ? `${many(list.length)} of ${many(D.groups.length)} groups`
    : `${many(list.length)} of ${many(total)}${V.group >= 0 ? `: ${groupText(D.groups[V.group])}` : ""}`;
  draw();
}
function draw() {
  const top = pane.getBoundingClientRect().top, from = Math.max(0, Math.floor(-top / height) - 1);
  const last = Math.min(list.length, (Math.ceil((innerHeight - top) / height) + 1) * columns), seen = new Map();
  let after = null;
  for (let at = last - 1; at >= from * columns; at--) {
    const node = cells.get(at) ?? cell(at);
    const transform = `translate(${at % columns * (wide + 10)}px, ${(at - at % columns) / columns * height}px)`;
    Object.assign(node.style, {transform, width: `${wide}px`, height: `${height - 8}px`});
    if (!node.isConnected) pane.insertBefore(node, after);
    seen.set(at, after = node);
  }
  for (const [at, node] of cells) if (!seen.has(at)) node.remove();
  cells = seen;
}
function cell(at) {
  const item = make("li"), link = make("a"), what = list[at];
  item.ariaSetSize = list.length;
  item.ariaPosInSet = at + 1;
  link.tabIndex = at === now ? 0 : -1;
  link.dataset.at = at;
  link.href = V.view === "groups" ? `#group=${what}` : `#image=${encodeURIComponent(I.n[what])}`;
  (V.view === "groups" ? groupCell : V.view === "failures" ? failureCell : imageCell)(link, what);
  item.append(link);
  return item;
}
function picture(link, source, instead) {
  if (!source) return link.append(make("i", instead));
  const node = make("img"), lost = "The small picture is missing: keep lrp-report beside the page.";
  link.append(Object.assign(node, {alt: "", src: source, onerror: () => node.replaceWith(make("i", lost))}));
}
function imageCell(link, i) {
  const m = I.first[i], some = m < end(i), count = end(i) - m;
  if (V.photo) picture(link, photoThumb(i), "No photo.");
  else picture(link, some ? thumb(i, m) : null, some ? D.plain[M.pic[m]] : D.errors[I.e[i]] ?? "");
  link.append(make("b", some ? label(m) : D.statuses[I.s[i]], some ? "" : "warn"), make("span", some ? said(m)
    + (count > 1 ? `, ${count} maps` : "") + (I.s[i] ? `, ${D.statuses[I.s[i]]}` : "") : ""), make("small", I.n[i]));
}
function failureCell(link, i) {
  link.append(make("b", I.n[i]), " ", make("span", D.errors[I.e[i]] ?? D.statuses[I.s[i]]), make("small", S.message[i]));
}
function groupCell(link, g) {
  const [t, p, images, name, state, of, found] = D.groups[g];
  picture(link, state === 2 ? small(name) : null, "No mean map.");
  link.append(make("b", `${D.labels[t]} → ${D.labels[p]}`, found ? "" : "warn"), make("span",
    `${images.length} image${images.length > 1 ? "s" : ""}`), make("small", of ? `mean map of ${of}` : "several classes"));
}
function go(to) {
  now = Math.max(0, Math.min(list.length - 1, to));
  const edge = $("tools").getBoundingClientRect().bottom, top = pane.getBoundingClientRect().top;
  const y = top + Math.floor(now / columns) * height;
  if (y < edge) scrollBy(0, y - edge - 4);
  else if (y + height > innerHeight) scrollBy(0, y + height - innerHeight);
  draw();
  for (const [at, node] of cells) node.firstChild.tabIndex = at === now ? 0 : -1;
  cells.get(now)?.firstChild.focus({preventScroll: true});
}

// One image: its maps side by side, with one zoom, one place and one slider for all.
const detail = $("detail"), stage = $("stage"), Z = {z: 1, x: 0, y: 0, cut: 0};
function zoom(z, px = 0.5, py = 0.5) {
  const next = Math.max(1, Math.min(32, z)), ratio = next / Z.z;
  [Z.z, Z.x, Z.y] = [next, px - (px - Z.x) * ratio, py - (py - Z.y) * ratio];
  place();
}
function place() {
  Z.x = Math.min(0, Math.max(1 - Z.z, Z.x));
  Z.y = Math.min(0, Math.max(1 - Z.z, Z.y));
  for (const [name, value] of Object.entries({z: Z.z, x: part(Z.x), y: part(Z.y), cut: `${Z.cut}%`}))
    stage.style.setProperty(`--${name}`, value);
  stage.className = [Z.z > 1 && "zoomed", Z.z >= 4 && "fine", Z.cut % 100 === 0 && "whole"].join(" ");
  $("zoom").textContent = `${Math.round(100 * Z.z)}%`;
  $("cut").value = Z.cut;
}
function cutTo(value) { Z.cut = Math.max(0, Math.min(100, value)); place(); }
function figure(i, m, down) {
  const node = make("figure"), frame = make("div", "", "frame"), move = make("div", "", "move");
  const box = M.box[m], [w, h] = [I.w[i] || 1, I.h[i] || 1];
  const [l, t, r, b] = box || [0, 0, 1, 1], ratio = (r - l) * w / ((b - t) * h);
  const full = shown(i, m) ?? thumb(i, m), photo = box === null ? null : photoFile(i) ?? photoThumb(i);
  frame.style.aspectRatio = ratio;
  node.style.width = `min(100%, calc((100dvh - 80px) / ${down} * ${ratio} - ${40 * ratio}px))`;
  if (photo) {
    const under = image(photo, "", photoThumb(i));
    const [left, top] = [part(-l / (r - l)), part(-t / (b - t))];
    Object.assign(under.style, {left, top, width: part(1 / (r - l)), height: part(1 / (b - t))});
    move.append(under);
  }
  if (full) {
    const over = image(full, photo ? "over" : "alone", thumb(i, m));
    over.alt = `Relevance for ${label(m)}`;
    move.append(over);
  } else frame.append(make("p", D.plain[M.pic[m]]));
  if (photo && full) move.append(make("div", "", "edge"));
  frame.prepend(move);
  node.append(frame, make("figcaption", `${runOf(M.r[m])}${label(m)} ${said(m)}`));
  return node;
}
function image(source, kind, instead) {
  const node = make("img", "", kind), give = () => node.replaceWith(make("p", D.plain[0]));
  const onerror = () => instead ? Object.assign(node, {onerror: give, src: instead}) : give();
  return Object.assign(node, {alt: "", draggable: false, onerror, src: source});
}
function facts(node, rows) {
  const dl = make("dl");
  for (const [name, value] of rows) {
    if ((value ?? "") === "") continue;
    dl.append(make("dt", name), make("dd"));
    dl.lastChild.append(value);
  }
  node.append(dl);
}
const link = (text, href) => Object.assign(make("a", text), {href});
function show(at) {
  open = now = at;
  const i = list[at], of = maps(i), side = $("facts"), across = innerWidth <= 760 ? 1 : Math.ceil(Math.sqrt(of.length));
  const down = innerWidth <= 760 ? 1.6 : Math.ceil(of.length / across);
  $("name").textContent = I.n[i];
  $("place").textContent = `${many(at + 1)} of ${many(list.length)}`;
  stage.style.setProperty("--across", across);
  stage.replaceChildren(...of.map((m) => figure(i, m, down)));
  if (!of.length) stage.append(make("p", S.message[i] ?? ""));
  side.replaceChildren();
  const photo = photoFile(i), best = I.top[i];
  const top = best.map((l, k) => k % 2 ? "" : `${D.labels[l]} ${percent(best[k + 1])}`).filter(Boolean);
  facts(side, [
    ["status", runOf(I.r[i]) + D.statuses[I.s[i]]], ["failure", D.errors[I.e[i]]], ["message", S.message[i]],
    ["photo", I.pt[i] < 0 ? "The file has changed since it was explained." : photo ? link("open", photo) : ""],
    ["size", I.w[i] ? `${I.w[i]} x ${I.h[i]}` : ""], ["folder's class", D.labels[I.true[i]]],
    ["best classes", top.join(", ")], ["seconds", I.sec[i]], ["decoder", S.note[i]],
  ]);
  for (const m of of) {
    side.append(make("h3", runOf(M.r[m]) + label(m)));
    const links = make("span");
    for (const [kind, path] of files(i, m)) links.append(link(kind, path), " ");
    facts(side, [
      ["class", M.c[m]], ["score", percent(M.s[m])], ["kept share", percent(M.k[m])],
      ["relevance", `${M.total[m]} of ${M.start[m]} at the start`], ["per pixel", `${M.min[m]} to ${M.max[m]}`],
      ["full colour", M.scale[m]], ["warning", M.warn[m] ? "Relevances over a million times the start." : ""],
      ["files", links.childNodes.length ? links : ""],
    ]);
  }
  place();
  if (!detail.open) { zoom(1); detail.showModal(); }
  remember(`image=${encodeURIComponent(I.n[i])}`);
}
const step = (to) => list[to] !== undefined && show(to);
const remember = (hash) => history.replaceState(null, "", `#${hash}`);

// What the address names: a view, a group or an image.
function visit() {
  const asked = new URLSearchParams(location.hash.slice(1)), name = asked.get("image"), i = I.n.indexOf(name);
  if (i >= 0) {
    if (!list.includes(i) || V.view === "groups") { reset(); turn("gallery"); }
    return show(list.indexOf(i));
  }
  if (detail.open) detail.close();
  V.group = D.groups[asked.get("group")] ? +asked.get("group") : -1;
  turn(["failures", "groups", "about"].find((view) => asked.has(view)) ?? "gallery");
}
function turn(view) {
  V.view = view;
  for (const node of document.querySelectorAll("nav a")) node.ariaCurrent = node.dataset.view === view ? "page" : null;
  $("about").hidden = view !== "about";
  $("tools").hidden = $("pane").hidden = view === "about";
  for (const id of ["class", "s0", "k0", "sort", "status", "down", "photo"])
    ($(id).closest("label") ?? $(id)).hidden = view !== "gallery";
  $("pane").ariaLabel = {failures: "Failures", groups: "Groups"}[view] ?? "Gallery";
  if (view !== "about") choose();
}
function reset() {
  for (const node of $("tools").querySelectorAll("input, select")) node.value = node.id === "sort" ? "name" : "";
  V.group = -1;
  $("down").ariaPressed = "false";
}
function togglePhoto() {
  if (detail.open) return cutTo(Z.cut < 50 ? 100 : 0);
  V.photo = !V.photo;
  $("photo").ariaPressed = V.photo;
  layOut(true);
}
const option = (text, value) => Object.assign(make("option", text), {value});
function suggest() {
  const wanted = $("class").value.trim().toLowerCase(), counts = [];
  for (const l of M.l) counts[l] = (counts[l] ?? 0) + 1;
  const found = [...new Set(M.l)].filter((l) => D.labels[l].toLowerCase().includes(wanted));
  found.sort((a, b) => counts[b] - counts[a]);
  $("classes").replaceChildren(...found.slice(0, 12).map((l) => option("", D.labels[l])));
}

// Keys, pointer, tools.
on(document, "keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const {key, target} = event, done = () => event.preventDefault();
  if ($("help").open) return;
  if (target.matches("#tools input, select") || target.id === "cut" && /^(Arrow|Home|End)/.test(key)) {
    if (key !== "Escape") return;
    if (target.type !== "search" || !target.value) return target.blur();
    done();
    target.value = "";
    return choose();
  }
  if (key === "c") return togglePhoto();
  const inside = {ArrowLeft: "back", ArrowRight: "next", "+": "more", "=": "more", "-": "less", 0: "once"};
  const press = {"?": "ask", t: "theme", ...detail.open && inside}[key], last = list.length - 1;
  if (press) { done(); return $(press).click(); }
  if (key === "Home" || key === "End") { done(); return (detail.open ? step : go)(key === "Home" ? 0 : last); }
  if (detail.open) return;
  if (key === "Escape" && V.group >= 0) location.hash = "groups";
  if (V.view === "about") return;
  if (key === "/") { done(); $("q").focus(); }
  const by = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[key];
  if (!by) return;
  done();
  go(document.activeElement.dataset.at === undefined || list[now + by] === undefined ? now : now + by);
});
on(pane, "click", (event) => {
  const cell = event.target.closest("a");
  if (!cell || event.ctrlKey || event.metaKey || event.shiftKey || V.view === "groups") return;
  event.preventDefault();
  go(+cell.dataset.at);
  show(+cell.dataset.at);
});
const points = new Map();
let apart = 0;
// Calls `act` with an event on a map, where that is in shares of its sides, and its area on the screen.
const inFrame = (act) => (event) => {
  const frame = event.target.closest(".frame"), area = frame?.getBoundingClientRect();
  if (frame) act(event, (event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height, area, frame);
};
on(stage, "wheel", inFrame((event, x, y) => {
  event.preventDefault();
  zoom(Z.z * Math.exp(-event.deltaY / 400), x, y);
}), {passive: false});
on(stage, "pointerdown", inFrame((event, x, y, area, frame) => {
  if (event.button) return;
  frame.setPointerCapture(event.pointerId);
  points.set(event.pointerId, event);
  apart = 0;
  if (Z.z === 1 && points.size === 1) cutTo(100 * x);
}));
on(stage, "pointermove", inFrame((event, x, y, area) => {
  const before = points.get(event.pointerId);
  if (!before) return;
  points.set(event.pointerId, event);
  if (points.size === 2) {
    const [a, b] = [...points.values()], now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    if (apart) zoom(Z.z * now / apart, x, y);
    apart = now;
  } else if (Z.z > 1) {
    Z.x += (event.clientX - before.clientX) / area.width;
    Z.y += (event.clientY - before.clientY) / area.height;
    place();
  } else cutTo(100 * x);
}));
on(stage, "pointerup pointercancel", (event) => points.delete(event.pointerId));
on(detail, "close", () => {
  remember(V.group >= 0 ? `group=${V.group}` : V.view);
  go(open);
  open = -1;
});
const clicks = {
  back: () => step(open - 1), next: () => step(open + 1),
  less: () => zoom(Z.z / 1.5), more: () => zoom(Z.z * 1.5), once: () => zoom(1), close: () => detail.close(),
  theme: switchTheme, ask: () => $("help").showModal(), photo: togglePhoto,
  down: () => { $("down").ariaPressed = $("down").ariaPressed !== "true"; choose(); },
  clear: () => { reset(); choose(); },
};
for (const [id, act] of Object.entries(clicks)) on($(id), "click", act);
on($("tools"), "input", choose);
on($("class"), "input focus", suggest);
on($("cut"), "input", () => cutTo(+$("cut").value));
on($("tools"), "submit", (event) => event.preventDefault());
let asked;
const soon = (act) => () => { cancelAnimationFrame(asked); asked = requestAnimationFrame(act); };
on(window, "scroll", soon(draw), {passive: true});
on(window, "resize", soon(() => V.view !== "about" && layOut(false)));
on(window, "hashchange", visit);

$("status").append(...[...D.statuses.keys()].filter((s) => I.s.includes(s)).map((s) => option(D.statuses[s], s)));
$("theme").hidden = $("ask").hidden = false;
$("none")?.remove();
visit();
root.dataset.ready = "";
})();
