// Notices of runs that ended, on every page. Of all open tabs one asks the server, because browsers open only six
// connections to a host: it holds a lease in the browser's storage, where it leaves what it heard, and the others
// hear of it by the storage's own event. What was seen in one tab is seen in all.
"use strict";
(() => {
  const region = document.getElementById("news");
  if (!region) return;
  const POLL = 4000, LEASE = 10000, SHOWN = 3, KEPT = 60, STAY = 20000;
  const me = Math.random().toString(36).slice(2);
  const title = document.title;
  let own = {}; // what is kept where the browser's storage is switched off: for this tab alone

  function load(name) {
    try { return JSON.parse(localStorage.getItem(name)); } catch { return own[name] ?? null; }
  }
  function keep(name, value) {
    own[name] = value;
    try { localStorage.setItem(name, JSON.stringify(value)); } catch { /* lasts for this page only */ }
  }

  // The one who asks: whoever holds the lease, and a tab in sight before a hidden one, whose clock goes slower.
  function leads() {
    const lease = load("news.lease"), now = Date.now();
    if (lease && lease.by !== me && lease.until > now && lease.until < now + 2 * LEASE
      && (lease.visible || document.hidden)) return false;
    keep("news.lease", { by: me, until: now + LEASE, visible: !document.hidden });
    return load("news.lease")?.by === me;
  }

  const state = () => load("news") ?? { after: "", start: "", items: [], seen: [] };

  async function ask() {
    if (!leads()) return;
    const before = state();
    const address = before.after ? `${region.dataset.url}?${new URLSearchParams({ after: before.after })}` : region.dataset.url;
    let heard;
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      if (answer.status === 401) { clearInterval(clock); return; }
      if (answer.status === 422) keep("news", { ...before, after: "" });
      if (!answer.ok) return;
      heard = await answer.json();
    } catch { return; /* the server is away: asked again the next time */ }
    const { start, items, seen } = state();
    const known = new Set([...items.map((each) => each.key), ...seen]);
    const fresh = heard.items.filter((each) => !known.has(each.key) && (!start || each.at > start));
    keep("news", {
      after: heard.now,
      start: start || heard.now,
      items: [...fresh, ...items].slice(0, KEPT),
      seen: seen.slice(-KEPT * 2),
    });
    if (fresh.length) draw();
  }

  function see(keys) {
    const { items, seen, ...rest } = state();
    const gone = new Set(keys);
    keep("news", { ...rest, items: items.filter((each) => !gone.has(each.key)), seen: [...seen, ...gone] });
    draw();
  }

  function notice(item) {
    const line = document.createElement("div");
    line.className = "notice";
    line.dataset.key = item.key;
    const badge = document.createElement("span");
    badge.className = `badge ${item.status}`;
    badge.textContent = item.status;
    const link = document.createElement("a");
    link.href = item.url;
    link.dir = "auto";
    link.textContent = item.name;
    link.addEventListener("click", () => see([item.key]));
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "×";
    close.setAttribute("aria-label", `Dismiss: ${item.name} ${item.status}`);
    close.addEventListener("click", () => see([item.key]));
    line.append(badge, link, close);
    return line;
  }

  function draw() {
    const { items } = state();
    const here = items.filter((each) => each.url === location.pathname);
    if (here.length && !document.hidden) { see(here.map((each) => each.key)); return; }
    const shown = items.slice(0, SHOWN);
    // Those that are there already stay untouched, or they would be read out again.
    const there = new Map([...region.querySelectorAll(".notice")].map((each) => [each.dataset.key, each]));
    for (const [key, line] of there) if (!shown.some((each) => each.key === key)) line.remove();
    let place = region.firstElementChild;
    for (const item of shown) {
      if (place?.dataset.key === item.key) { place = place.nextElementSibling; continue; }
      region.insertBefore(there.get(item.key) ?? notice(item), place);
    }
    let rest = region.querySelector(".rest");
    if (items.length > 1) {
      if (!rest) {
        rest = document.createElement("div");
        rest.className = "rest";
        const all = document.createElement("a");
        all.href = region.dataset.runs;
        const close = document.createElement("button");
        close.type = "button";
        close.textContent = "Dismiss all";
        close.addEventListener("click", () => see(state().items.map((each) => each.key)));
        rest.append(all, close);
      }
      const hidden = items.length - shown.length;
      rest.firstElementChild.textContent = hidden ? `and ${hidden} more` : "All runs";
      region.append(rest);
    } else rest?.remove();
    document.title = document.hidden && items.length ? `(${items.length}) ${title}` : title;
    wait();
  }

  // What went well is seen once it was in sight for a while; what failed stays until somebody says so.
  let leaving = 0;
  function wait() {
    clearTimeout(leaving);
    const good = [...region.querySelectorAll(".notice")].filter((each) => each.querySelector(".succeeded"));
    if (document.hidden || !good.length) return;
    leaving = setTimeout(() => {
      if (region.matches(":hover, :focus-within")) wait();
      else see(good.map((each) => each.dataset.key));
    }, STAY);
  }

  addEventListener("storage", (event) => { if (event.key === "news" || event.key === null) draw(); });
  document.addEventListener("visibilitychange", () => { draw(); ask(); });
  addEventListener("pagehide", () => {
    if (load("news.lease")?.by === me) keep("news.lease", null);
  });
  const clock = setInterval(ask, POLL);
  draw();
  ask();
})();
