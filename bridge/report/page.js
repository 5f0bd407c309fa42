"use strict";
// What a line is, search, the order of execution, the graph. Names of a model are put in as text, never as HTML.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const rows = data.rows.map(([path, op, layer, name, parameters, error, level, line, shape, reads, module, errors], place) =>
    ({ path, op, layer, name, parameters, error, level, line, shape, reads, module, errors, place, readers: [] }));
  rows.forEach((row) => row.reads.forEach((place) => place >= 0 && rows[place].readers.push(row.place)));
  const variables = new Map();
  for (const [layer, ...rest] of data.variables) variables.set(layer, [...(variables.get(layer) ?? []), rest]);
  const SEVERAL = 200; // lines that are added at a time

  const make = (tag, attributes = {}, ...inside) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...inside);
    return element;
  };
  const button = (text, action, attributes = {}) => {
    const element = make("button", { type: "button", ...attributes }, text);
    element.addEventListener("click", action);
    return element;
  };
  const said = (row) => `${row.path || row.op}, ${row.op} to ${row.layer} ${row.name}, error ${row.error}`;

  // --- contents: what is folded opens on the way there ---
  const show = (element) => {
    for (let above = element; above; above = above.parentElement) if (above.tagName === "DETAILS") above.open = true;
    element.scrollIntoView({ block: "nearest" });
  };
  document.querySelectorAll('a[href^="#"]').forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault(); // in a frame of a notebook a link would lead to the notebook
    const target = $(link.hash.slice(1));
    const fold = target.querySelector(":scope > details.more");
    if (fold) fold.open = true;
    target.setAttribute("tabindex", "-1");
    target.focus({ preventScroll: true });
    target.scrollIntoView();
  }));

  // --- what a line is ---
  const detail = $("detail");
  let origin = null, chosen = -1;
  const links = (places) => places.map((place) => {
    const end = place < 0 ? data.inputs[-1 - place] : null;
    return make("dd", {}, end ? `input ${end[0]}` : button(`${rows[place].path || rows[place].op}`, () => open(place), { class: "link" }));
  });
  const facts = (row) => {
    const list = make("dl");
    const add = (term, ...values) => values.length && list.append(make("dt", {}, term), ...values.map((v) => v.tagName === "DD" ? v : make("dd", {}, v)));
    add("error", make("span", { class: `error ${row.level}` }, row.error));
    if (row.errors.length > 1) add("at", ...row.errors.map((error, place) => `${data.sizes[place]}: ${error}`));
    if (row.path) add("torch module", row.path);
    if (row.line) add("source line", row.line);
    add("ONNX", row.op);
    add("Keras", `${row.layer} ${row.name}`);
    if (row.shape) add("shape", row.shape);
    if (row.parameters) add("parameters", row.parameters.toLocaleString("en"));
    if (data.custom[row.name]) add("of our own", data.custom[row.name]);
    add("reads", ...links(row.reads));
    add("read by", ...links(row.readers));
    return list;
  };
  function open(place) {
    const row = rows[place];
    if (detail.hidden) origin = document.activeElement;
    chosen = place;
    const parts = [make("h2", { id: "detail-h" }, row.path || row.op), button("✕", shut, { class: "shut", "aria-label": "Close" }), facts(row)];
    if (data.layers[row.name]) parts.push(make("h3", {}, "As one would write it"), make("pre", { tabindex: "0" }, data.layers[row.name]));
    const own = variables.get(row.name) ?? [];
    if (own.length) {
      const list = make("dl");
      for (const [path, shape, recipe, remarks] of own)
        list.append(make("dt", {}, shape), make("dd", {}, make("code", {}, recipe), make("br"), make("small", {}, `${path} ${remarks}`)));
      parts.push(make("h3", {}, "Weights"), list);
    }
    parts.push(make("p", {}, button("Show among the modules", () => reveal(place), { class: "link" })),
      make("p", {}, button("Show in the graph", () => { clear(); pick("graph"); graph.reveal(place); }, { class: "link" })));
    detail.replaceChildren(...parts);
    detail.hidden = false;
    detail.focus({ preventScroll: true });
    graph.choose(place);
  }
  function shut() {
    detail.hidden = true;
    chosen = -1;
    graph.choose(-1);
    if (origin?.isConnected) origin.focus({ preventScroll: true });
  }
  document.addEventListener("click", (event) => {
    const line = event.target.closest?.("[data-row]");
    if (line) open(Number(line.dataset.row));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (!detail.hidden) shut();
    else if (document.activeElement?.type === "search") find((document.activeElement.value = ""), document.activeElement);
  });

  // --- lists, some lines at a time ---
  const line = (row) => make("button", { type: "button", class: `row ${row.level}`, "data-row": row.place },
    make("span", { class: "what" }, make("span", { class: "place" }, row.place + 1), make("span", { class: "name" }, row.path),
      make("span", { class: "soft" }, `${row.op} → `), `${row.layer} `, make("code", {}, row.name)),
    make("span", { class: "number soft parameters" }, row.parameters ? row.parameters.toLocaleString("en") : ""),
    make("span", { class: "number" }, make("span", { class: `error ${row.level}` }, row.error)));
  function fill(list, found) {
    const more = (start) => {
      list.append(...found.slice(start, start + SEVERAL).map(line));
      const left = found.length - start - SEVERAL;
      if (left > 0) list.append(button(`${Math.min(left, SEVERAL)} more of ${left.toLocaleString("en")}`, (event) => {
        const before = event.target.previousElementSibling;
        event.target.remove();
        more(start + SEVERAL);
        before.nextElementSibling.focus();
      }, { class: "further" }));
    };
    list.replaceChildren();
    more(0);
    if (!found.length) list.append(make("p", { class: "none" }, "Nothing has these letters."));
  }

  // --- tree, order of execution, graph ---
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const graph = tabs.length ? drawGraph($("graph"), data, rows, open) : null;
  let shown = "tree";
  function pick(name) {
    shown = name;
    for (const tab of tabs) {
      const mine = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", mine);
      tab.tabIndex = mine ? 0 : -1;
      $(`panel-${tab.id.slice(4)}`).hidden = !mine;
    }
    document.querySelector(".fold").hidden = name === "order";
    if (name === "order" && !$("panel-order").childElementCount) fill($("panel-order"), rows);
    if (name === "graph") graph.draw();
  }
  for (const [index, tab] of tabs.entries()) {
    const other = { ArrowRight: 1, ArrowLeft: -1 };
    tab.addEventListener("click", () => { clear(); pick(tab.id.slice(4)); });
    tab.addEventListener("keydown", (event) => {
      if (!(event.key in other)) return;
      const next = tabs[(index + other[event.key] + tabs.length) % tabs.length];
      next.focus();
      next.click();
    });
  }
  function reveal(place) {
    clear();
    pick("tree");
    const element = $("panel-tree").querySelector(`[data-row="${place}"]`);
    show(element);
    element.focus();
  }
  const fold = (open) => shown === "graph" ? graph.every(open)
    : $("panel-tree").querySelectorAll("details").forEach((d, index) => { d.open = open || index === 0; });
  if (tabs.length) {
    $("open-all").addEventListener("click", () => fold(true));
    $("close-all").addEventListener("click", () => fold(false));
    $("zoom-in").addEventListener("click", () => graph.zoom(1.25));
    $("zoom-out").addEventListener("click", () => graph.zoom(0.8));
    $("fit").addEventListener("click", graph.fit);
  }

  // --- search ---
  const text = (row) => [row.path, row.op, row.layer, row.name, row.line,
    ...(variables.get(row.name) ?? []).flat()].join(" ").toLowerCase();
  let texts = null;
  function find(words, input) {
    const asked = words.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const has = (given) => asked.every((word) => given.includes(word));
    if (input.id === "search-weights") {
      const lines = [...$("weights-table").tBodies[0].rows];
      let count = 0;
      for (const one of lines) count += (one.hidden = !has(one.textContent.toLowerCase())) ? 0 : 1;
      $("count-weights").textContent = asked.length ? `${count} of ${lines.length}` : "";
      return;
    }
    texts ??= rows.map(text);
    const found = asked.length ? rows.filter((row) => has(texts[row.place])) : [];
    $("found").hidden = !asked.length;
    $(`panel-${shown}`).hidden = asked.length > 0;
    $("count").textContent = asked.length ? `${found.length} of ${rows.length} nodes` : "";
    if (asked.length) fill($("found"), found);
  }
  const clear = () => { $("search").value = ""; find("", $("search")); };
  for (const input of document.querySelectorAll("input[type=search]")) {
    let waiting = 0;
    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => find(input.value, input), 80);
    });
  }

  // --- errors along the network ---
  const profile = $("profile");
  if (profile) {
    const points = profile.dataset.points.trim().split(" ").map((p) => p.split(",").map(Number));
    const cursor = profile.querySelector(".cursor");
    let at = 0;
    const point = (index) => {
      at = Math.max(0, Math.min(points.length - 1, index));
      const row = rows[points[at][0]];
      cursor.hidden = false;
      cursor.style.left = `${points[at][1]}%`;
      $("at").textContent = `${row.place + 1}: ${row.path || row.op} · ${row.error}`;
      profile.setAttribute("aria-valuenow", row.place + 1);
      profile.setAttribute("aria-valuetext", said(row));
    };
    const under = (event) => {
      const box = profile.getBoundingClientRect();
      const x = 100 * (event.clientX - box.left) / box.width;
      return points.reduce((best, p, index) => Math.abs(p[1] - x) < Math.abs(points[best][1] - x) ? index : best, 0);
    };
    profile.addEventListener("pointermove", (event) => point(under(event)));
    profile.addEventListener("click", (event) => { point(under(event)); open(points[at][0]); });
    profile.addEventListener("focus", () => point(at));
    profile.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowUp: at + 1, ArrowDown: at - 1, Home: 0, End: points.length, PageUp: at + 20, PageDown: at - 20 };
      if (event.key in steps) point(steps[event.key]);
      else if (event.key === "Enter" || event.key === " ") open(points[at][0]);
      else return;
      event.preventDefault();
    });
  }

  // --- in print what is short is open, what is long is named by its count ---
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")].filter((d) => d.querySelectorAll("tr, .row").length <= SEVERAL);
    opened.forEach((d) => { d.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((d) => { d.open = false; }));
})();
