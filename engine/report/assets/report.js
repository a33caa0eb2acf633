"use strict";
// Draws the pictures of a report.  Every text goes in as text, never as markup; nothing is fetched.
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const plots = []; // {u, spec, box}
  const DECADES = 3; // between the palest and the darkest cell of a heat map
  const Y_WIDTH = 94; // of the labels on the left: charts of one run stand under each other
  let ink = {};

  const NAMES = ["paper", "ink", "muted", "line", "mark", "index", "last", "loss", "fund", "adl", "cut", "unpaid",
    "long", "short", "heat", "risk"];

  function readInk() {
    const style = getComputedStyle(root);
    for (const name of NAMES) ink[name] = style.getPropertyValue("--" + name).trim();
  }

  // ---------------------------------------------------------------- texts

  const digits = new Map();
  function plain(value, places) {
    if (!digits.has(places)) {
      digits.set(places, new Intl.NumberFormat("en-US", { maximumFractionDigits: places, minimumFractionDigits: places }));
    }
    return digits.get(places).format(value);
  }

  function decimals(step) { // how many a multiple of it needs
    let places = 0;
    while (places < 8 && Math.abs(step - Math.round(step)) > 1e-6) {
      step *= 10;
      places++;
    }
    return places;
  }

  function short(value, step) {
    const size = Math.abs(value);
    // an axis names its numbers by its step, so that its labels stay alike
    for (const [limit, name] of [[1e9, "bn"], [1e6, "m"], [1e3, "k"]]) {
      if (step ? step >= limit / 10 && size >= limit : size >= limit * 10) {
        const places = step ? decimals(step / limit) : 1;
        return plain(value / limit, places) + name;
      }
    }
    return plain(value, step ? decimals(step) : 2);
  }

  function elapsed(seconds, step) {
    const sign = seconds < 0 ? "-" : "";
    const all = Math.abs(seconds);
    if (step < 1 && all < 60) return sign + plain(all, decimals(step)) + " s";
    const whole = Math.round(all), pad = (n) => String(n).padStart(2, "0");
    const h = Math.floor(whole / 3600), m = Math.floor((whole % 3600) / 60), s = whole % 60;
    return sign + (h ? h + ":" + pad(m) + ":" + pad(s) : m + ":" + pad(s));
  }

  function clock(spec, x) {
    return new Date(spec.t0 + x * 1000).toISOString().slice(11, 23) + " UTC";
  }

  function element(name, text, parent, attributes = {}) {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  }

  // ---------------------------------------------------------------- what a picture says at a time

  function lastAt(xs, x) { // place of the last one at or before x, -1: none
    let low = 0, high = xs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] <= x + 1e-9) low = middle + 1; else high = middle;
    }
    return low - 1;
  }

  function nearest(xs, x) {
    const at = lastAt(xs, x);
    if (at < 0) return 0;
    return at + 1 < xs.length && xs[at + 1] - x < x - xs[at] ? at + 1 : at;
  }

  function tellSeries(u, spec, series, x) {
    if (series.style === "level") return series.name;
    if (spec.axis) {
      const at = series.style === "step" ? lastAt(series.x, x) : series.x.indexOf(x);
      if (at < 0) return null;
      const band = full(series.low[at]) + " to " + full(series.high[at]);
      return series.name + " " + full(series.y[at]) + " (" + band + ")";
    }
    if (series.style === "points") {
      const at = nearest(series.x, x);
      if (Math.abs(u.valToPos(series.x[at], "x") - u.valToPos(x, "x")) > 6) return null;
      return series.labels ? series.labels[at] : series.name + " " + short(series.y[at]);
    }
    const at = series.style === "bars" ? nearest(series.x, x) : lastAt(series.x, x);
    if (at < 0) return null;
    const value = series.show ? series.show[at] : series.y[at];
    return value || series.style !== "bars" ? series.name + " " + full(value) : null;
  }

  function full(value) {
    const size = Math.abs(value);
    return plain(value, size >= 1000 || Number.isInteger(value) ? (Number.isInteger(value) ? 0 : 2) : size >= 1 ? 3 : 6);
  }

  function tell(plot, x, isLive) {
    const { u, spec, said } = plot;
    said.setAttribute("aria-live", isLive ? "polite" : "off");
    said.replaceChildren();
    if (x === null) {
      said.textContent = "";
      return;
    }
    const parts = [];
    if (spec.axis) {
      element("b", spec.axis.name + " " + (spec.axis.labels[Math.round(x)] || full(x)), said);
      parts.push("");
    } else {
      element("b", elapsed(x, 0.001 > spec.span ? 0.001 : 0.1) + " in", said);
      parts.push(" · " + clock(spec, x));
    }
    if (spec.kind === "heat") {
      const at = Math.max(lastAt(spec.x, x), 0);
      spec.rows.forEach((row, place) => parts.push(row + " " + full(spec.cells[place][at])));
    } else {
      spec.series.forEach((series, place) => {
        const text = u.series[place + 1].show ? tellSeries(u, spec, series, x) : null;
        if (text) parts.push(text);
      });
    }
    said.append(parts.join(" · ") + (spec.unit ? " (" + spec.unit + ")" : ""));
  }

  // ---------------------------------------------------------------- drawing

  function paintHeat(u, spec) {
    const { ctx } = u, right = u.bbox.left + u.bbox.width;
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    ctx.fillStyle = ink[spec.colour];
    const rows = spec.rows.length;
    for (let at = 0; at < spec.x.length; at++) {
      const x0 = Math.floor(u.valToPos(spec.x[at], "x", true));
      const x1 = at + 1 < spec.x.length ? Math.floor(u.valToPos(spec.x[at + 1], "x", true)) : Math.ceil(right);
      for (let row = 0; row < rows; row++) {
        const value = spec.cells[row][at];
        if (!value) continue;
        const y0 = Math.round(u.valToPos(rows - row, "y", true)), y1 = Math.round(u.valToPos(rows - row - 1, "y", true));
        ctx.globalAlpha = Math.max(0.08, 1 + Math.log10(value / spec.most) / DECADES);
        ctx.fillRect(x0, y0 + 1, Math.max(x1 - x0, 1), y1 - y0 - 2);
      }
    }
    ctx.restore();
  }

  // Behind the lines: a stretch of the axis that is tinted, places on it that are marked.
  function paintMarks(u, spec) {
    const { ctx } = u, { left, top, width, height } = u.bbox;
    const place = (x) => Math.min(Math.max(Math.round(u.valToPos(x, "x", true)), left), left + width);
    ctx.save();
    for (const area of spec.areas || []) {
      ctx.fillStyle = ink[area.colour] + "22";
      ctx.fillRect(place(area.from), top, place(area.to) - place(area.from), height);
    }
    for (const mark of spec.marks || []) {
      ctx.fillStyle = ink[mark.colour];
      ctx.fillRect(place(mark.x) - 1, top, 2, height);
    }
    ctx.restore();
  }

  // Intervals at places that are no numbers.
  function paintWhiskers(u, spec) {
    const { ctx } = u;
    ctx.save();
    spec.series.forEach((series, place) => {
      if (series.style !== "whiskers" || !u.series[place + 1].show) return;
      ctx.strokeStyle = ctx.fillStyle = ink[series.colour];
      ctx.lineWidth = 2 * devicePixelRatio;
      series.x.forEach((x, at) => {
        // lines side by side, so that none hides another
        const middle = u.valToPos(x, "x", true) + (place - (spec.series.length - 1) / 2) * 16 * devicePixelRatio;
        const [low, y, high] = [series.low[at], series.y[at], series.high[at]].map((value) => u.valToPos(value, "y", true));
        ctx.beginPath();
        for (const [x0, y0, x1, y1] of [[0, low, 0, high], [-6, low, 6, low], [-6, high, 6, high]]) {
          ctx.moveTo(middle + x0, y0);
          ctx.lineTo(middle + x1, y1);
        }
        ctx.stroke();
        ctx.beginPath();
        ctx.arc(middle, y, 4 * devicePixelRatio, 0, 7);
        ctx.fill();
      });
    });
    ctx.restore();
  }

  // The ends of bands are series of their own behind all others, drawn without a line.
  function bandsOf(spec) {
    return spec.series.flatMap((series, place) => (series.low ? [{ series, place }] : []));
  }

  function endOptions(series) {
    const stepped = series.style === "step" ? { paths: uPlot.paths.stepped({ align: 1 }) } : {};
    return { stroke: "transparent", width: 0, spanGaps: true, points: { show: false }, ...stepped };
  }

  function seriesOptions(series) {
    const stroke = () => ink[series.colour];
    const options = { label: series.name, stroke, width: series.width || 1.25, spanGaps: true, points: { show: false } };
    if (series.dash && series.dash.length) options.dash = series.dash;
    if (series.style === "step") {
      options.paths = uPlot.paths.stepped({ align: 1 });
      if (!series.low) options.fill = () => ink[series.colour] + "22";
    } else if (series.style === "curve" || series.style === "whiskers") {
      if (series.style === "whiskers") options.paths = () => null;
      else options.points = { show: true, size: 7, stroke, fill: stroke };
    } else if (series.style === "bars") {
      options.paths = uPlot.paths.bars({ size: [0.86, 36] });
      options.fill = stroke;
      options.width = 0;
    } else if (series.style === "points") {
      options.paths = () => null;
      options.points = { show: true, size: 8, width: 1.5, stroke, fill: () => ink[series.colour] + "66" };
    }
    return options;
  }

  function sizeOf(spec, box) {
    const width = Math.max(Math.floor(box.clientWidth), 200);
    const height = spec.kind === "heat" ? 58 + 30 * spec.rows.length : width < 480 ? 220 : 270;
    return { width, height };
  }

  function yRange(spec) {
    if (spec.kind === "heat") return [0, spec.rows.length];
    return (u, low, high) => {
      if (low === null || low === undefined) return [0, 1];
      if (spec.zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
      if (low === high) return [low - 1, high + 1];
      const room = (high - low) * 0.06;
      return [spec.zero && low === 0 ? 0 : low - room, spec.zero && high === 0 ? 0 : high + room];
    };
  }

  function axisOfValues(look) {
    return { ...look, size: (u) => (u.width < 480 ? 58 : Y_WIDTH), values: (u, at, axis, space, step) => at.map((v) => short(v, step)) };
  }

  function apart(u, places) { // as many of the grid's own places as there is room to name
    let last = -Infinity;
    return places.filter((x) => {
      const left = u.valToPos(x, "x");
      if (left - last < 56) return false;
      last = left;
      return true;
    });
  }

  function axisOfGrid(spec, look) {
    const { name, labels } = spec.axis;
    const x = { ...look, size: 34, space: 70, label: name, labelSize: 22, labelFont: look.font };
    if (labels.length) return { ...x, splits: () => labels.map((_, at) => at), values: () => labels };
    const places = [...new Set(spec.series.flatMap((series) => (series.style === "curve" ? series.x : [])))].sort((a, b) => a - b);
    const values = (u, at, axis, space, step) => at.map((v) => (v === null ? "" : short(v, places.length ? 0 : step)));
    return places.length ? { ...x, values, splits: (u) => apart(u, places), filter: (u, at) => at } : { ...x, values };
  }

  function axes(spec) {
    const look = { stroke: () => ink.muted, font: "12px system-ui, sans-serif",
      grid: { stroke: () => ink.line, width: 1 }, ticks: { stroke: () => ink.line, width: 1, size: 5 } };
    if (spec.axis) return [axisOfGrid(spec, look), axisOfValues(look)];
    const x = { ...look, size: 34, space: 70, values: (u, at, axis, space, step) => at.map((v) => elapsed(v, step)) };
    if (spec.kind !== "heat") {
      return [x, axisOfValues(look)];
    }
    const count = spec.rows.length;
    const y = { ...look, size: Y_WIDTH, grid: { show: false }, ticks: { show: false },
      splits: () => spec.rows.map((_, row) => row + 0.5), values: () => spec.rows.map((_, row) => spec.rows[count - 1 - row]) };
    return [x, y];
  }

  function zoomAll(spec, low, high) {
    for (const other of plots) {
      if (other.spec.sync !== spec.sync) continue;
      other.spec.view = [low, high];
      other.u.setScale("x", { min: low, max: high });
      other.reset.hidden = low <= spec.begin && high >= spec.span;
    }
  }

  function build(box) {
    const spec = { ...DATA.pictures[box.dataset.picture] };
    const isHeat = spec.kind === "heat";
    spec.begin = spec.begin || 0;
    spec.view = [spec.begin, spec.span];
    if (isHeat) spec.most = Math.max(...spec.cells.map((row) => Math.max(...row)));
    const ends = isHeat ? [] : bandsOf(spec);
    const tables = isHeat ? [] : spec.series.map((series) => [series.x, series.y]);
    for (const { series } of ends) tables.push([series.x, series.high], [series.x, series.low]);
    const data = isHeat ? [spec.x, spec.x.map(() => 0)] : uPlot.join(tables);
    const bands = ends.map(({ series }, at) => {
      const high = spec.series.length + 1 + 2 * at;
      return { series: [high, high + 1], fill: () => ink[series.colour] + (series.style === "whiskers" ? "00" : "2b") };
    });
    const plot = { spec, box, said: box.parentElement.querySelector("output") };
    const hooks = {
      setCursor: [(u) => tell(plot, u.cursor.idx === null || u.cursor.idx === undefined || u.cursor.left < 0 ? null
        : u.data[0][u.cursor.idx], plot.isLive === true)],
      setSelect: [(u) => {
        if (u.select.width > 4) {
          zoomAll(spec, u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
        }
        u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
      }],
    };
    if (isHeat) hooks.draw = [(u) => paintHeat(u, spec)];
    if (spec.axis) {
      hooks.drawAxes = [(u) => paintMarks(u, spec)];
      hooks.draw = [(u) => paintWhiskers(u, spec)];
    }
    const options = {
      ...sizeOf(spec, box),
      padding: [8, 12, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: spec.sync }, y: false, drag: { x: true, y: false, setScale: false }, points: { show: !isHeat } },
      scales: { x: { time: false, distr: spec.axis && spec.axis.log ? 3 : 1, range: () => spec.view }, y: { range: yRange(spec) } },
      axes: axes(spec),
      series: [{}, ...(isHeat ? [{ paths: () => null, points: { show: false } }] : spec.series.map(seriesOptions)),
        ...ends.flatMap(({ series }) => [endOptions(series), endOptions(series)])],
      bands,
      hooks,
    };
    plot.u = new uPlot(options, data, box);
    plot.ends = ends;
    addKeys(plot);
    box.addEventListener("keydown", (event) => steer(plot, event));
    box.addEventListener("dblclick", () => zoomAll(spec, spec.begin, spec.span));
    box.addEventListener("blur", () => { plot.isLive = false; });
    new ResizeObserver(() => {
      const size = sizeOf(spec, box);
      if (size.width !== plot.u.width || size.height !== plot.u.height) plot.u.setSize(size);
    }).observe(box);
    plots.push(plot);
  }

  function addKeys(plot) {
    const { spec, box, u } = plot, keys = box.parentElement.querySelector(".keys");
    plot.swatches = [];
    const swatch = (parent, colour) => {
      const made = element("i", "", parent);
      plot.swatches.push([made, colour]);
      return made;
    };
    if (spec.kind === "heat") {
      const ramp = element("span", "", keys, { class: "note" });
      ramp.append(short(spec.most / 10 ** DECADES) + " ");
      plot.ramp = element("span", "", ramp, { class: "ramp" });
      ramp.append(" " + short(spec.most) + " " + spec.unit + " (logarithmic)");
    } else {
      spec.series.forEach((series, place) => {
        const button = element("button", "", keys, { type: "button", "aria-pressed": "true" });
        swatch(button, series.colour);
        button.append(series.name);
        button.addEventListener("click", () => {
          const show = !u.series[place + 1].show;
          u.setSeries(place + 1, { show });
          plot.ends.forEach((end, at) => {
            const high = spec.series.length + 1 + 2 * at;
            if (end.place === place) for (const side of [high, high + 1]) u.setSeries(side, { show });
          });
          button.setAttribute("aria-pressed", String(show));
        });
      });
    }
    plot.reset = element("button", spec.axis ? "All" : "Whole run", keys, { type: "button", class: "reset" });
    plot.reset.hidden = true;
    plot.reset.addEventListener("click", () => zoomAll(spec, spec.begin, spec.span));
  }

  // Arrows move the cursor (on a grid from place to place), + and - zoom around it, Escape shows all.
  function steer(plot, event) {
    const { u, spec } = plot, xs = u.data[0], { min, max } = u.scales.x;
    const now = plot.at === undefined ? min : plot.at, step = (max - min) / (event.shiftKey ? 10 : 100);
    const moves = { ArrowRight: now + step, ArrowLeft: now - step, Home: min, End: max };
    if (event.key in moves) {
      let place = nearest(xs, Math.min(Math.max(moves[event.key], min), max));
      if (spec.axis) place = placeOnGrid(plot, event.key);
      plot.at = spec.axis ? xs[place] : Math.min(Math.max(moves[event.key], min), max);
      plot.isLive = true;
      u.setCursor({ left: u.valToPos(xs[place], "x"), top: u.over.clientHeight / 2 });
      plot.isLive = false;
    } else if (event.key === "+" || event.key === "-") {
      const half = (max - min) * (event.key === "+" ? 0.25 : 1);
      zoomAll(spec, Math.max(now - half, spec.begin), Math.min(now + half, spec.span));
    } else if (event.key === "Escape") {
      zoomAll(spec, spec.begin, spec.span);
    } else {
      return;
    }
    event.preventDefault();
  }

  function placeOnGrid(plot, key) {
    const { u } = plot, xs = u.data[0], { min, max } = u.scales.x;
    const seen = xs.map((_, at) => at).filter((at) => xs[at] >= min && xs[at] <= max);
    const now = plot.at === undefined ? -1 : seen.findIndex((at) => xs[at] >= plot.at);
    const moves = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: seen.length - 1 };
    return seen[Math.min(Math.max(moves[key], 0), seen.length - 1)];
  }

  // ---------------------------------------------------------------- tables that can be sorted

  function numberIn(text) {
    const found = Number(text.replace(/[,%]/g, "").trim() || NaN);
    return Number.isNaN(found) ? parseFloat(text.replace(/,/g, "")) : found;
  }

  // Numbers largest first, texts from A; a second press turns it round.  What is no number stays at the end.
  function sortBy(table, head, at) {
    const body = table.tBodies[0], rows = [...body.rows];
    const texts = rows.map((row) => row.cells[at].textContent), numbers = texts.map(numberIn);
    const isText = numbers.every(Number.isNaN), before = head.getAttribute("aria-sort");
    const isRising = before ? before === "descending" : isText;
    const sign = isRising ? 1 : -1;
    const order = rows.map((_, place) => place).sort((a, b) => {
      if (isText) return sign * texts[a].localeCompare(texts[b]);
      if (Number.isNaN(numbers[a]) || Number.isNaN(numbers[b])) return Number.isNaN(numbers[a]) - Number.isNaN(numbers[b]);
      return sign * (numbers[a] - numbers[b]);
    });
    body.append(...order.map((place) => rows[place]));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", isRising ? "ascending" : "descending");
  }

  function makeSortable(table) {
    [...table.tHead.rows[0].cells].forEach((head, at) => {
      const text = head.textContent;
      head.textContent = "";
      element("button", text, head, { type: "button" }).addEventListener("click", () => sortBy(table, head, at));
    });
    element("span", ". Press a head to sort by it.", table.caption, { class: "how" });
  }

  function repaint() {
    readInk();
    for (const plot of plots) {
      for (const [swatch, colour] of plot.swatches) swatch.style.background = ink[colour];
      if (plot.ramp) plot.ramp.style.background = `linear-gradient(to right, ${ink.paper}, ${ink[plot.spec.colour]})`;
      plot.u.redraw(true, true);
    }
  }

  readInk();
  document.querySelectorAll(".plot").forEach(build);
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  repaint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  addEventListener("beforeprint", () => { root.classList.add("print"); repaint(); });
  addEventListener("afterprint", () => { root.classList.remove("print"); repaint(); });
  root.dataset.drawn = String(plots.length);
  root.dataset.milliseconds = String(Math.round(performance.now()));
})();
