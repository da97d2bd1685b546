// Curves of one run or of several: small multiples that share a cursor and a zoom, and go on while a run does.
//
// The page brings what to draw as JSON (`CurvesView` in app/pages/training_curves.py); points come from the
// metrics of each run. History comes binned where it is long, and raw for a range that somebody zooms into.
// What is drawn is said: a chart that shows bins tells of how many points.
"use strict";
(() => {
  const POLL_MS = 500;
  const STATE_MS = 4000;
  const PAUSE_AFTER_FAILURE_MS = 4000;
  const OVERVIEW_POINTS = 2000;
  const DETAIL_POINTS = 8000;
  const MOST_POINTS = 3 * OVERVIEW_POINTS;
  const COLOURS = 6;
  const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
  const SPARSE = 40;
  const HEIGHT = 190;
  const POWERS = Array.from({ length: 60 }, (_, power) => 2 ** power);
  const FARTHEST = 1e300; // Beyond, the ends of an axis are infinite.
  const SMOOTHING_KEY = "curves-smoothing";

  // ------------------------------------------------------------------------------------------- numbers

  function tell(value, unit) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (unit === "bytes") return tellBytes(value);
    const size = Math.abs(value);
    const text = value === 0 ? "0"
      : size >= 1e6 || size < 1e-3 ? value.toExponential(2).replace(/\.?0+e/, "e")
        : size >= 1000 ? grouped(Math.round(value))
          : value.toPrecision(4).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
    return text.replace("e+", "e").replaceAll("-", "−");
  }

  function tellBytes(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let place = 0;
    while (value >= 1024 && place < units.length - 1) { value /= 1024; place += 1; }
    return `${value >= 100 || value === 0 ? Math.round(value) : value.toPrecision(3)} ${units[place]}`;
  }

  function grouped(whole) {
    return String(whole).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  }

  function lower(steps, step) {
    // The first place whose step is at least `step`.
    let low = 0;
    let high = steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle + 1; else high = middle;
    }
    return low;
  }

  // An average that forgets over `span` steps. It begins with the first point, not with zero.
  function smoothed(steps, values, span) {
    if (span <= 0) return values;
    const out = new Array(values.length);
    let sum = 0;
    let weight = 0;
    for (let i = 0; i < values.length; i++) {
      const decay = i ? Math.exp((steps[i - 1] - steps[i]) / span) : 0;
      sum = sum * decay + values[i];
      weight = weight * decay + 1;
      out[i] = sum / weight;
    }
    return out;
  }

  // Both ends of a linear axis: a curve that stays where it is stands in the middle, or on the ground.
  function reach(low, high) {
    if (low === null || high === null) return [0, 1];
    if (low !== high) return window.uPlot.rangeNum(low, high, 0.1, true);
    return low === 0 ? [0, 1] : [Math.min(0, 2 * low), Math.max(0, 2 * low)];
  }

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function swatch(index) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("class", `swatch c${index % COLOURS}`);
    svg.setAttribute("viewBox", "0 0 26 8");
    svg.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(space, "path");
    line.setAttribute("d", "M0 4H26");
    line.setAttribute("stroke-dasharray", DASHES[index % DASHES.length].join(" "));
    svg.append(line);
    return svg;
  }

  // ------------------------------------------------------------------------------------------- one curve

  // What is known of one metric of one run: all of it, binned or not, and a finer look at the zoomed range.
  class Series {
    constructor({ steps, values, points, binned }) {
      this.steps = steps;
      this.values = values;
      this.points = points;
      this.binned = binned;
      this.detail = null;
    }

    get last() { return this.steps.length ? this.steps[this.steps.length - 1] : 0; }

    append({ steps, values }) {
      const from = lower(steps, this.last + 1);
      if (from === steps.length) return false;
      this.steps.push(...steps.slice(from));
      this.values.push(...values.slice(from));
      this.points += steps.length - from;
      return true;
    }

    shown() {
      if (!this.detail) return { steps: this.steps, values: this.values };
      const before = lower(this.steps, this.detail.from);
      const after = lower(this.steps, this.detail.to + 1);
      const join = (all, part) => [...all.slice(0, before), ...part, ...all.slice(after)];
      return {
        steps: join(this.steps, this.detail.steps),
        values: join(this.values, this.detail.values),
      };
    }

    // [points drawn, points there are, whether they are bins] of the range.
    counted(range) {
      if (!range) return [this.steps.length, this.points, this.binned];
      const { steps } = this.shown();
      const drawn = lower(steps, range[1] + 1) - lower(steps, range[0]);
      const covered = this.detail && this.detail.from <= range[0] && range[1] <= this.detail.to;
      if (covered) return [drawn, Math.max(drawn, this.detail.points), this.detail.binned];
      return [drawn, this.binned ? null : drawn, this.binned];
    }
  }

  // ------------------------------------------------------------------------------------------- one chart

  class Chart {
    constructor(curves, spec) {
      this.curves = curves;
      this.spec = spec;
      this.isLog = false;
      this.isSeen = false;
      this.isStale = true;
      this.lines = [];
      this.plot = null;
      this.element = element("figure", "chart");
      this.element.tabIndex = 0;
      this.element.dataset.chart = spec.title;
      const head = element("figcaption");
      head.append(element("span", "group", spec.group), element("b", "", spec.title));
      head.title = `${spec.group}: ${spec.title}`;
      this.log = element("button", "tool", "log");
      this.log.type = "button";
      this.log.title = "Logarithmic axis";
      this.log.setAttribute("aria-label", `log axis of ${spec.title}`);
      this.log.setAttribute("aria-pressed", "false");
      this.log.addEventListener("click", () => this.turnLog());
      head.append(this.log);
      this.legend = element("div", "legend");
      this.place = element("div", "plot");
      this.note = element("p", "note");
      this.element.append(head, this.legend, this.place, this.note);
      this.element.addEventListener("keydown", (event) => this.onKey(event));
    }

    turnLog() {
      this.isLog = !this.isLog;
      this.log.setAttribute("aria-pressed", String(this.isLog));
      this.unbuild();
      this.draw();
    }

    // Lines are [run, name] of what there is; a new one makes the chart anew, points alone do not.
    fit() {
      const lines = this.curves.linesOf(this.spec);
      const key = lines.map((line) => `${line.run.id} ${line.name}`).join("\n");
      if (key !== this.key) {
        this.key = key;
        this.lines = lines;
        this.unbuild();
        this.legend.replaceChildren(...lines.map((line) => {
          const item = element("span", "item");
          item.title = line.label;
          line.value = element("b", "", "–");
          item.append(swatch(line.index));
          if (line.isNamed) item.append(element("span", "name", line.label));
          item.append(line.value);
          return item;
        }));
        this.legend.classList.toggle("many", !lines.some((line) => line.isNamed));
      }
      this.isStale = true;
    }

    unbuild() {
      this.plot?.destroy();
      this.plot = null;
    }

    draw(isQuiet = false) {
      if (this.plot && !this.isSeen && !isQuiet) return; // Comes when it is scrolled to, or nothing else is due.
      const width = this.place.clientWidth;
      if (!width) return;
      this.isStale = false;
      const data = this.data();
      if (this.plot) this.plot.setData(data);
      else this.build(width, data);
      this.tellAt(this.curves.step);
      this.say();
    }

    data() {
      const span = this.curves.span;
      let lost = 0;
      const tables = this.lines.map((line) => {
        const { steps, values } = line.series.shown();
        line.shown = { steps, values };
        line.smooth = line.isSmoothed ? smoothed(steps, values, span) : values;
        const drawn = (list) => list.map((value) => (this.isLog && !(value > 0) ? null : Math.max(-FARTHEST, Math.min(FARTHEST, value))));
        if (this.isLog) lost += values.filter((value) => !(value > 0)).length;
        return [steps, drawn(values), drawn(line.smooth)];
      });
      this.lost = lost;
      if (tables.length === 0) return [[]];
      return tables.length === 1 ? tables[0] : window.uPlot.join(tables);
    }

    build(width, data) {
      const series = [{}];
      for (const line of this.lines) {
        const colour = () => this.curves.colour(line.index);
        const dash = DASHES[line.index % DASHES.length];
        const isSparse = !line.isSmoothed || line.series.steps.length <= 1;
        const common = { spanGaps: true, stroke: colour, dash };
        series.push({ ...common, width: 1, alpha: line.isSmoothed ? (this.lines.length > 4 ? 0.12 : 0.3) : 0, dash: [], points: { show: false } });
        series.push({
          ...common,
          width: 1.8,
          points: {
            show: isSparse ? (u, index) => u.data[index].length <= SPARSE || line.shown.steps.length <= SPARSE : false,
            size: 5,
            fill: colour,
          },
        });
      }
      const ink = () => this.curves.ink();
      const grid = { stroke: () => this.curves.faint(), width: 1 };
      const axis = { stroke: ink, grid, ticks: { show: false }, font: this.curves.font, gap: 4 };
      this.plot = new window.uPlot({
        width,
        height: HEIGHT,
        legend: { show: false },
        pxAlign: 0,
        padding: [6, 26, 0, 0],
        cursor: {
          y: false,
          points: { show: false },
          drag: { x: true, y: false, setScale: false },
          bind: { dblclick: () => () => { this.curves.zoom(null); return null; } },
        },
        scales: {
          x: { time: false, range: () => this.curves.limits() },
          y: this.isLog ? { distr: 3 } : { range: (u, low, high) => reach(low, high) },
        },
        axes: [
          { ...axis, size: 26, space: 60, values: (u, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? grouped(tick) : "")) },
          { ...axis, size: 62, space: 32, ...(this.spec.unit === "bytes" ? { incrs: POWERS } : {}), values: (u, ticks) => ticks.map((tick) => (tick === null ? "" : tell(tick, this.spec.unit))) },
        ],
        series,
        hooks: {
          setCursor: [(u) => this.onCursor(u)],
          setSelect: [(u) => this.onSelect(u)],
        },
      }, data, this.place);
    }

    onCursor(u) {
      if (this.curves.isMoving) return;
      const { left, idx } = u.cursor;
      const isOff = left === undefined || left < 0 || idx === null || idx === undefined;
      this.curves.point(isOff ? null : u.posToVal(left, "x"), this);
    }

    onSelect(u) {
      const { left, width } = u.select;
      if (width < 4) return;
      const from = u.posToVal(left, "x");
      const to = u.posToVal(left + width, "x");
      u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      this.curves.zoom([Math.ceil(from), Math.floor(to)]);
    }

    // The arrows move the cursor over the points, Home and End to their ends, Escape leaves the zoom.
    onKey(event) {
      if (event.target !== this.element || !this.lines.length) return;
      if (event.key === "Escape") { this.curves.zoom(null); return; }
      const steps = this.lines[0].shown?.steps ?? [];
      const [from, to] = this.curves.limits();
      const at = this.curves.step;
      const place = at === null ? steps.length - 1 : lower(steps, at);
      const next = {
        ArrowLeft: at === null ? place : place - 1,
        ArrowRight: at === null ? place : place + 1,
        Home: lower(steps, from),
        End: lower(steps, to + 1) - 1,
      }[event.key];
      if (next === undefined || steps[next] === undefined) return;
      event.preventDefault();
      this.curves.point(steps[next], null);
    }

    mark(step) {
      if (!this.plot) return;
      const left = step === null ? -10 : this.plot.valToPos(step, "x");
      this.plot.setCursor({ left, top: step === null ? -10 : 0 }, false);
    }

    // The values at `step`: of the last point not after it. Without a step, of the last point that is drawn.
    tellAt(step) {
      const at = step ?? this.curves.range?.[1] ?? Infinity;
      for (const line of this.lines) {
        if (!line.shown) continue;
        const { steps, values } = line.shown;
        const place = at === Infinity ? steps.length - 1 : lower(steps, Math.floor(at) + 1) - 1;
        line.value.textContent = place < 0 ? "–" : tell(values[place], this.spec.unit);
      }
    }

    say() {
      const range = this.curves.range;
      let drawn = 0;
      let all = 0;
      let isBinned = false;
      for (const line of this.lines) {
        const [some, total, binned] = line.series.counted(range);
        drawn += some;
        all = all === null || total === null ? null : all + total;
        isBinned ||= binned;
      }
      const words = [];
      if (isBinned && all === null) words.push(`binned: ${grouped(drawn)} points shown, raw ones are on their way`);
      else if (isBinned && drawn < all) words.push(`binned: ${grouped(drawn)} of ${grouped(all)} points shown`);
      else if (range) words.push(`all ${grouped(drawn)} points of this range`);
      if (this.lost) words.push(`${grouped(this.lost)} not above 0 left out`);
      this.note.textContent = words.join("; ") || "\u00a0";
      this.note.title = [
        isBinned ? "The lowest and the highest value of each bin are drawn, and the smooth line goes through their middle; zoom in to see every point." : "",
        this.lost ? "A logarithmic axis cannot show what is not above 0." : "",
      ].join(" ").trim();
      const last = this.lines.map((line) => `${line.label} ${line.value?.textContent}`).join(", ");
      this.element.setAttribute("aria-label", `${this.spec.title}: ${last}`);
    }
  }

  // ------------------------------------------------------------------------------------------- all charts

  class Curves {
    constructor(root) {
      this.root = root;
      this.view = JSON.parse(root.querySelector("script[type='application/json']").textContent);
      this.runs = [];
      this.charts = new Map();
      this.hidden = new Set();
      this.range = null;
      this.step = null;
      this.asked = 0;
      this.colours = new Map();
      this.place = root.querySelector(".charts");
      this.empty = root.querySelector("[data-empty]");
      this.state = root.querySelector("[data-state]");
      this.slider = root.querySelector("[data-smoothing]");
      this.told = root.querySelector("[data-span]");
      this.inputs = [root.querySelector("[data-from]"), root.querySelector("[data-to]")];
      this.reset = root.querySelector("[data-reset]");
      this.font = `11px ${getComputedStyle(root).fontFamily}`;
      this.watchSizes();
      this.listen();
      this.take(this.view.runs);
      this.loop();
    }

    listen() {
      try { this.slider.value = localStorage.getItem(SMOOTHING_KEY) ?? this.slider.value; } catch { /* stays */ }
      this.slider.addEventListener("input", () => {
        try { localStorage.setItem(SMOOTHING_KEY, this.slider.value); } catch { /* lasts for this page only */ }
        this.redraw();
      });
      for (const input of this.inputs) {
        input.addEventListener("change", () => {
          const [from, to] = this.inputs.map((one) => (one.value === "" ? null : Number(one.value)));
          const [low, high] = this.extent();
          const isTaken = this.zoom(from === null && to === null ? null : [from ?? low, to ?? high], false);
          // The fields say what is drawn. One that was left blank stays so: somebody may be about to fill it.
          if (!isTaken || (from !== null && to !== null)) this.writeRange();
        });
      }
      this.reset.addEventListener("click", () => this.zoom(null));
      this.root.addEventListener("change", (event) => {
        const box = event.target.closest("[data-shows]");
        if (!box) return;
        const id = Number(box.dataset.shows);
        if (box.checked) this.hidden.delete(id); else this.hidden.add(id);
        this.fit();
      });
      const recolour = () => { this.colours.clear(); for (const chart of this.charts.values()) chart.plot?.redraw(false); };
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
      new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });
      // A refreshed part of the page may know of runs that were not there before.
      document.addEventListener("htmx:after:swap", () => {
        const fresh = document.querySelector(`script[data-runs-of="${this.root.id}"]`);
        if (fresh) this.take(JSON.parse(fresh.textContent));
      });
    }

    watchSizes() {
      this.sizes = new ResizeObserver((entries) => {
        for (const { target } of entries) {
          const chart = this.charts.get(target.dataset.key);
          const width = target.clientWidth;
          if (chart?.plot && width && width !== chart.plot.width) chart.plot.setSize({ width, height: HEIGHT });
          else if (chart && !chart.plot) chart.draw();
        }
      });
      this.sight = new IntersectionObserver((entries) => {
        for (const { target, isIntersecting } of entries) {
          const chart = this.charts.get(target.dataset.key);
          chart.isSeen = isIntersecting;
          if (isIntersecting && chart.isStale) chart.draw();
        }
      }, { rootMargin: "300px" });
    }

    take(runs) {
      for (const run of runs) {
        const known = this.runs.find((one) => one.id === run.id);
        if (known) { known.active ||= run.active; continue; }
        const index = this.runs.length;
        const taken = { ...run, index, series: new Map(), last: 0, askedState: 0, isNew: true };
        this.runs.push(taken);
        if (run.series) this.store(taken, { series: run.series, last_step: 0 });
      }
      this.fillLegend();
      this.fit();
    }

    get isCompared() { return this.view.compares; }

    fillLegend() {
      const legend = this.root.querySelector("[data-legend]");
      if (!legend || legend.childElementCount === this.runs.length) return;
      for (const run of this.runs.slice(legend.childElementCount)) {
        const item = element("li");
        const label = element("label");
        const box = element("input");
        box.type = "checkbox";
        box.checked = true;
        box.dataset.shows = run.id;
        const name = element("span", "name", run.name);
        name.title = run.name;
        label.append(box, swatch(run.index), name);
        item.append(label);
        legend.append(item);
      }
    }

    // ------------------------------------------------------------------------------------- what is drawn

    // A chart for each group of metrics of one run; where runs are compared, one for each metric.
    specs(names) {
      const specs = new Map();
      for (const name of names) {
        const chart = this.view.charts.find((one) => one.metrics.some((metric) => metric.name === name));
        const metric = chart?.metrics.find((one) => one.name === name);
        const parts = name.split("/");
        const suite = parts[0] === "suite" && parts.length > 2;
        const label = metric?.label ?? (suite ? parts.slice(2).join("/") : parts.slice(1).join("/") || name);
        const group = chart?.group ?? (suite ? "suite" : parts.length > 1 ? parts[0] : "other");
        const own = chart?.title ?? (suite ? parts[1] : label.replaceAll("_", " "));
        const title = this.isCompared && (chart ? chart.metrics.length > 1 : suite) ? `${own}: ${label}` : own;
        const place = chart ? chart.metrics.indexOf(metric) : label === "all" ? -1 : 0;
        const order = (chart ? this.view.charts.indexOf(chart) : suite ? 1000 : 2000) + (this.isCompared ? place / 100 : 0);
        const key = this.isCompared ? name : `${group}/${own}`;
        if (!specs.has(key)) specs.set(key, { key, group, title, order, unit: chart?.unit ?? "", metrics: [] });
        specs.get(key).metrics.push({ name, label, place });
      }
      for (const spec of specs.values()) spec.metrics.sort((one, other) => one.place - other.place || (one.label < other.label ? -1 : 1));
      return [...specs.values()].sort((one, other) => one.order - other.order || (one.key < other.key ? -1 : 1));
    }

    linesOf(spec) {
      const lines = [];
      for (const run of this.runs) {
        if (this.hidden.has(run.id)) continue;
        spec.metrics.forEach((metric, place) => {
          const series = run.series.get(metric.name);
          if (!series) return;
          lines.push({
            run,
            series,
            name: metric.name,
            label: this.isCompared ? run.name : metric.label,
            isNamed: !this.isCompared && spec.metrics.length > 1,
            index: this.isCompared ? run.index : place,
            isSmoothed: /^(train|system)\//.test(metric.name),
          });
        });
      }
      return lines;
    }

    fit() {
      const names = new Set(this.runs.flatMap((run) => [...run.series.keys()]));
      const specs = this.specs(names);
      const kept = new Set(specs.map((spec) => spec.key));
      for (const [key, chart] of this.charts) {
        if (kept.has(key)) continue;
        chart.unbuild();
        chart.element.remove();
        this.charts.delete(key);
      }
      let previous = null;
      for (const spec of specs) {
        let chart = this.charts.get(spec.key);
        if (chart) chart.spec = spec;
        else {
          chart = new Chart(this, spec);
          this.charts.set(spec.key, chart);
          chart.element.dataset.key = spec.key;
          chart.place.dataset.key = spec.key;
          if (previous) previous.after(chart.element); else this.place.prepend(chart.element);
          this.sight.observe(chart.element);
          this.sizes.observe(chart.place);
        }
        previous = chart.element;
        chart.fit();
      }
      if (this.empty) this.empty.hidden = names.size > 0;
      this.root.classList.toggle("none-shown", this.runs.length > 0 && this.runs.every((run) => this.hidden.has(run.id)));
      this.root.classList.toggle("has-curves", names.size > 0);
      this.redraw();
    }

    redraw() {
      this.tellSpan();
      for (const chart of this.charts.values()) {
        chart.isStale = true;
        chart.draw();
      }
    }

    extent() {
      let low = Infinity;
      let high = 0;
      for (const run of this.runs) {
        if (this.hidden.has(run.id)) continue;
        for (const series of run.series.values()) {
          if (!series.steps.length) continue;
          low = Math.min(low, series.steps[0]);
          high = Math.max(high, series.last);
        }
      }
      return high === 0 && low === Infinity ? [0, 1] : [low, high];
    }

    // Both ends of the x axis: a single step stands in the middle.
    limits() {
      const [low, high] = this.range ?? this.extent();
      return low === high ? [low - 1, high + 1] : [low, high];
    }

    get span() {
      const steps = Math.max(this.view.total ?? 0, this.extent()[1]);
      const share = Number(this.slider.value) / 100;
      return share * share * steps * 0.25;
    }

    tellSpan() {
      const { span } = this;
      this.told.textContent = span < 0.5 ? "none" : `≈ ${grouped(Math.round(span))} step${Math.round(span) === 1 ? "" : "s"}`;
    }

    // ------------------------------------------------------------------------------------- cursor and zoom

    point(step, source) {
      this.step = step;
      if (this.isWaiting) return;
      this.isWaiting = true;
      requestAnimationFrame(() => {
        this.isWaiting = false;
        this.isMoving = true;
        for (const chart of this.charts.values()) {
          if (!chart.isSeen) continue;
          if (chart !== source) chart.mark(this.step);
          chart.tellAt(this.step);
        }
        this.isMoving = false;
        this.sayState();
      });
    }

    zoom(range, isWritten = true) {
      const [low, high] = this.extent();
      if (range) {
        range = [Math.max(low, Math.min(...range)), Math.min(high, Math.max(...range))];
        if (range[1] - range[0] < 1) return false;
      }
      this.range = range;
      if (isWritten) this.writeRange();
      this.reset.disabled = !range;
      this.asked += 1;
      for (const run of this.runs) for (const series of run.series.values()) series.detail = null;
      this.redraw();
      if (range) this.look(range, this.asked);
      return true;
    }

    writeRange() { this.inputs.forEach((input, end) => { input.value = this.range ? this.range[end] : ""; }); }

    // The raw points of the range, of those runs whose history came in bins.
    async look([from, to], asked) {
      await Promise.all(this.runs.map(async (run) => {
        const names = [...run.series].filter(([, series]) => series.binned).map(([name]) => name);
        if (!run.metrics || !names.length) return;
        const found = await this.fetch(run, { names: names.join(","), since: from - 1, until: to, max_points: DETAIL_POINTS });
        if (!found || asked !== this.asked) return;
        for (const [name, part] of Object.entries(found.series)) {
          const series = run.series.get(name);
          if (series) series.detail = { from, to, ...part };
        }
      }));
      if (asked === this.asked) this.redraw();
    }

    // ------------------------------------------------------------------------------------- points

    async fetch(run, query) {
      const address = `${run.metrics}?${new URLSearchParams(query)}`;
      try {
        const answer = await fetch(address, { headers: { Accept: "application/json" } });
        if (answer.status === 401) location.reload();
        if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
        this.failed = false;
        return await answer.json();
      } catch {
        this.failed = true;
        return null;
      }
    }

    // Takes points in; true where there is something new. Points of steps that a restart took back go.
    store(run, found) {
      let isNew = false;
      for (const [name, part] of Object.entries(found.series)) {
        const known = run.series.get(name);
        if (known) isNew = known.append(part) || isNew;
        else if (part.steps.length) { run.series.set(name, new Series(part)); isNew = true; }
      }
      run.last = Math.max(run.last, found.last_step ?? 0);
      return isNew;
    }

    async read(run) {
      const found = await this.fetch(run, { max_points: OVERVIEW_POINTS });
      if (!found) return false;
      const details = new Map([...run.series].map(([name, series]) => [name, series.detail]));
      run.series = new Map();
      run.isNew = false;
      run.last = 0;
      this.store(run, found);
      for (const [name, series] of run.series) series.detail = details.get(name) ?? null;
      return true;
    }

    async follow(run) {
      // The last step once more: what was measured at it may have been stored after its loss.
      const found = await this.fetch(run, { since: run.last - 1, max_points: OVERVIEW_POINTS });
      if (!found) return false;
      const wasTakenBack = (found.last_step ?? 0) < run.last;
      const cameBinned = Object.values(found.series).some((part) => part.binned);
      const isLong = [...run.series.values()].some((series) => series.steps.length > MOST_POINTS);
      if (wasTakenBack || cameBinned || isLong) return this.read(run);
      return this.store(run, found);
    }

    async loop() {
      for (;;) {
        if (!this.root.isConnected) return;
        let isNew = false;
        const due = this.runs.filter((run) => run.metrics && (run.isNew || run.active));
        if (due.length && !document.hidden) {
          const news = await Promise.all(due.map(async (run) => {
            const ends = run.active && await this.hasEnded(run);
            const came = await (run.isNew ? this.read(run) : this.follow(run));
            // The last look comes after the end, so that no point is missed.
            if (ends && !this.failed) run.active = false;
            return came;
          }));
          isNew = news.some(Boolean);
        }
        if (isNew) this.fit();
        else for (const chart of this.charts.values()) if (chart.isStale) chart.draw(true);
        this.sayState();
        await new Promise((done) => { setTimeout(done, this.failed ? PAUSE_AFTER_FAILURE_MS : POLL_MS); });
      }
    }

    async hasEnded(run) {
      const now = performance.now();
      if (now - run.askedState < STATE_MS) return false;
      run.askedState = now;
      try {
        const answer = await fetch(run.state, { headers: { Accept: "application/json" } });
        return answer.ok && (await answer.json()).job.is_over;
      } catch { return false; }
    }

    sayState() {
      const isLive = this.runs.some((run) => run.active);
      const words = this.step !== null ? `step ${grouped(Math.round(this.step))}`
        : this.failed ? "no answer, trying again"
          : isLive ? "live" : "";
      this.state.textContent = words;
      this.state.classList.toggle("live", isLive && !this.failed && this.step === null);
    }

    // ------------------------------------------------------------------------------------- colours

    // Canvas cannot read a colour that follows the theme, so a hidden element reads it.
    colour(index) { return this.colourOf(`c${index % COLOURS}`); }
    ink() { return this.colourOf("ink"); }
    faint() { return this.colourOf("faint"); }

    colourOf(name) {
      if (!this.colours.has(name)) {
        const probe = element("span", `probe ${name}`);
        this.root.append(probe);
        this.colours.set(name, getComputedStyle(probe).color);
        probe.remove();
      }
      return this.colours.get(name);
    }
  }

  function begin() {
    for (const root of document.querySelectorAll("[data-curves]:not([data-begun])")) {
      root.dataset.begun = "true";
      root.curves = new Curves(root);
    }
  }
  document.addEventListener("DOMContentLoaded", begin);
})();
