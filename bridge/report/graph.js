"use strict";
// The network as a graph: modules are groups that open and close, nodes stand in ranks below what they read.
function drawGraph(svg, data, rows, openRow) {
  const WIDTH = 196, HEIGHT = 46, GAP = 18, BETWEEN = 30, INSIDE = 14, HEAD = 26, THREAD = 10;
  const MOST = 1500; // boxes that are open at once
  const AT_FIRST = 20; // and before anybody opens one
  const BENDS = 4000; // places that edges keep free between ranks
  const SVG = "http://www.w3.org/2000/svg";
  const make = (tag, attributes = {}, ...inside) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...inside);
    return element;
  };
  const cut = (text, length) => text.length > length ? `${text.slice(0, length - 1)}…` : text;

  // --- modules, rows, inputs and outputs as one tree, and the edges among them ---
  const modules = data.modules.map(([name]) => ({ name, kids: [], open: false, first: Infinity, links: [], exits: new Set(), entries: new Set() }));
  data.modules.forEach(([, parent], number) => { modules[number].parent = modules[parent]; });
  const root = modules[0];
  root.open = true;
  const leaves = rows.map((row) => ({ row, first: row.place, parent: modules[row.module] }));
  const inputs = data.inputs.map(([name, text]) => ({ end: "input", name, text, first: -1, parent: root }));
  const outputs = data.outputs.map(([name, text]) => ({ end: "output", name, text, first: rows.length, parent: root }));
  const contain = (node) => { node.parent.kids.push(node); for (let up = node.parent; up; up = up.parent) up.first = Math.min(up.first, node.first); };
  [...inputs, ...leaves, ...outputs].forEach(contain);
  modules.slice(1).forEach((module) => module.parent.kids.push(module));
  for (const module of modules) {
    module.kids.sort((one, other) => one.first - other.first);
    module.kids.forEach((kid, index) => { kid.order = index; });
  }
  const above = (node) => { const found = []; for (let up = node; up; up = up.parent) found.push(up); return found; };
  const counted = (module) => module.kids.reduce((sum, kid) => sum + (kid.kids ? counted(kid) : 1), 0);
  const levels = ["unknown", "close", "good", "near", "off"];
  const levelOf = (node) => node.row ? node.row.level : node.end ? "unknown"
    : levels[Math.max(...node.kids.map((kid) => levels.indexOf(levelOf(kid))))];
  modules.forEach((module) => { module.count = counted(module); module.level = levelOf(module); });
  const edges = [];
  leaves.forEach((leaf) => leaf.row.reads.forEach((place) => edges.push([place < 0 ? inputs[-1 - place] : leaves[place], leaf])));
  data.outputs.forEach(([, , place], index) => place !== null && edges.push([leaves[place], outputs[index]]));
  for (const edge of edges) {
    const [from, to] = edge.map((node) => above(node).reverse());
    let depth = 0;
    while (from[depth + 1] === to[depth + 1]) depth += 1;
    from[depth].links.push([from[depth + 1], to[depth + 1]]);
    edge.push(from, to, depth);
    for (let at = depth + 1; at < from.length - 1; at += 1) from[at].exits.add(from[at + 1]);
    for (let at = depth + 1; at < to.length - 1; at += 1) to[at].entries.add(to[at + 1]);
  }
  const waiting = [root];
  for (let room = AT_FIRST; waiting.length;) {
    const module = waiting.shift();
    room -= module.kids.length;
    module.open = module === root || room >= 0;
    if (module.open) waiting.push(...module.kids.filter((kid) => kid.kids));
  }

  // --- where everything stands ---
  function arrange(module) {
    const kids = module.kids;
    for (const kid of kids) [kid.w, kid.h] = kid.kids && kid.open ? arrange(kid) : [WIDTH, HEIGHT];
    const forward = module.links.filter(([from, to]) => from.order < to.order);
    const before = new Map(kids.map((kid) => [kid, []]));
    forward.forEach(([from, to]) => before.get(to).push(from));
    for (const kid of kids) kid.rank = before.get(kid).reduce((most, one) => Math.max(most, one.rank + 1), 0);
    const ranks = Array.from({ length: kids.reduce((most, kid) => Math.max(most, kid.rank), 0) + 1 }, () => []);
    kids.forEach((kid) => { kid.up = []; kid.down = []; ranks[kid.rank].push(kid); });
    thread(module, forward, ranks);
    const middle = (box) => box.x + box.w / 2;
    const settle = (rank, side) => {
      for (const box of rank) box.want = box[side].length ? box[side].reduce((sum, one) => sum + middle(one), 0) / box[side].length : middle(box);
      rank.sort((one, other) => one.want - other.want);
      let right = -Infinity;
      for (const box of rank) right = (box.x = Math.max(box.want - box.w / 2, right)) + box.w + GAP;
      const off = rank.reduce((sum, box) => sum + box.want - middle(box), 0) / (rank.length || 1);
      rank.forEach((box) => { box.x += off; });
    };
    for (const rank of ranks) rank.reduce((x, box) => (box.x = x) + box.w + GAP, 0);
    for (let sweep = 0; sweep < 3; sweep += 1) {
      ranks.forEach((rank) => settle(rank, "up"));
      if (sweep < 2) [...ranks].reverse().forEach((rank) => settle(rank, "down"));
    }
    const boxes = ranks.flat();
    const first = boxes.reduce((least, box) => Math.min(least, box.x), Infinity);
    let y = module === root ? INSIDE : HEAD + INSIDE;
    for (const rank of ranks) {
      const height = rank.reduce((most, box) => Math.max(most, box.h), THREAD);
      for (const box of rank) { box.y = y; if (box.thread) box.h = height; }
      y += height + BETWEEN;
    }
    boxes.forEach((box) => { box.x += INSIDE - first; });
    const width = boxes.reduce((most, box) => Math.max(most, box.x + box.w), WIDTH);
    return [width + INSIDE, y - BETWEEN + INSIDE];
  }

  // Places that long edges keep free: below `from` as far as it is read, above what is entered from outside.
  function thread(module, forward, ranks) {
    let left = BENDS;
    const join = (upper, lower) => { upper.down.push(lower); lower.up.push(upper); };
    const run = (low, high) => {
      if (high - low + 1 > left) return [];
      const places = [];
      for (let rank = low; rank <= high; rank += 1) {
        const place = { thread: true, w: THREAD, h: THREAD, up: [], down: [], rank };
        ranks[rank].push(place);
        if (places.length) join(places.at(-1), place);
        places.push(place);
      }
      left -= places.length;
      return places;
    };
    for (const kid of module.kids) {
      const reach = forward.reduce((most, [from, to]) => from === kid ? Math.max(most, to.rank - 1) : most, module.exits.has(kid) ? ranks.length - 1 : 0);
      kid.leaving = run(kid.rank + 1, reach);
      if (kid.leaving.length) join(kid, kid.leaving[0]);
      kid.coming = module.entries.has(kid) ? run(0, kid.rank - 1) : [];
      if (kid.coming.length) join(kid.coming.at(-1), kid);
    }
    for (const [from, to] of forward) join(from.leaving[to.rank - from.rank - 2] ?? from, to);
  }

  function settleAt(node, x, y) {
    node.X = x + node.x;
    node.Y = y + node.y;
    if (node.kids && node.open) for (const kid of node.kids) {
      settleAt(kid, node.X, node.Y);
      for (const place of [...kid.leaving, ...kid.coming]) [place.X, place.Y] = [node.X + place.x, node.Y + place.y];
    }
  }

  // --- what is drawn ---
  const world = make("g");
  svg.append(world);
  let view = { k: 1, x: 0, y: 0 }, drawn = false, chosen = -1, boxes = new Map();
  const move = () => world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
  const seen = (path) => path.find((node) => !(node.kids && node.open)) ?? path.at(-1);
  const curve = (points) => points.slice(1).reduce((path, [x, y], index) => {
    const [fromX, fromY] = points[index], half = (fromY + y) / 2;
    return x === fromX ? `${path}L${x} ${y}` : `${path}C${fromX} ${half} ${x} ${half} ${x} ${y}`;
  }, `M${points[0][0]} ${points[0][1]}`);
  function route([, , from, to, depth], start, end) {
    const way = [];
    for (let at = from.indexOf(start); at > depth + 1; at -= 1) way.push(...from[at].leaving);
    const [a, b] = [from[depth + 1], to[depth + 1]];
    if (a.order < b.order) way.push(...a.leaving.slice(0, b.rank - a.rank - 1));
    for (let at = depth + 2; at <= to.indexOf(end); at += 1) way.push(...to[at].coming);
    const points = way.flatMap((place) => [[place.X + place.w / 2, place.Y], [place.X + place.w / 2, place.Y + place.h]]);
    return curve([[start.X + start.w / 2, start.Y + start.h], ...points, [end.X + end.w / 2, end.Y]]);
  }
  const told = (node) => node.row ? `${node.row.path || node.row.op}: ${node.row.op} to ${node.row.layer} ${node.row.name}, ${node.row.shape}, error ${node.row.error}`
    : node.end ? `${node.end} ${node.text}` : `${node.name}, a module of ${node.count} nodes`;
  const named = (node) => /^\d/.test(node.name) && node.parent !== root ? `${named(node.parent)}.${node.name}` : node.name;
  function box(node) {
    const opened = node.kids && node.open;
    const kind = node.end ? "end" : node.kids ? (opened ? "group opened" : "group") : "node";
    const group = make("g", { class: kind, transform: `translate(${node.X} ${node.Y})` }, make("rect", { class: "box", width: node.w, height: node.h, rx: 8 }));
    const title = node.row ? node.row.name || node.row.op : named(node);
    const second = node.row ? `${node.row.op} → ${node.row.layer}` : node.end ? node.text.slice(node.name.length + 2) : `${node.count} nodes`;
    if (opened) group.append(make("rect", { width: node.w, height: HEAD, rx: 8, fill: "transparent" }));
    if (!node.end && !opened) group.append(make("rect", { class: `tone ${node.kids ? node.level : node.row.level}`, x: 0, y: 8, width: 4, height: node.h - 16, rx: 2 }));
    group.append(make("title", {}, told(node)), make("text", { x: 12, y: 19, "font-weight": 600 }, cut(node.kids ? `${opened ? "−" : "+"} ${title}` : title, opened ? Math.floor(node.w / 7) : 26)));
    if (!opened) group.append(make("text", { class: "op", x: 12, y: 36 }, cut(second, 29)));
    if (node.end) return group;
    for (const [name, value] of Object.entries({ role: "button", tabindex: 0, "aria-label": told(node), ...(node.kids ? { "aria-expanded": opened } : {}) })) group.setAttribute(name, value);
    const act = () => node.kids ? toggle(node) : openRow(node.row.place);
    group.addEventListener("click", () => { if (!dragged) act(); });
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      act();
    });
    return group;
  }
  function draw() {
    const [w, h] = arrange(root);
    Object.assign(root, { w, h, x: 0, y: 0 });
    settleAt(root, 0, 0);
    boxes = new Map();
    const opened = [], closed = [], paths = new Map();
    const walk = (node) => {
      const open = node.kids && node.open;
      if (node !== root) { boxes.set(node, box(node)); (open ? opened : closed).push(boxes.get(node)); }
      if (open) node.kids.forEach(walk);
    };
    walk(root);
    const numbers = new Map([...boxes.keys()].map((node, index) => [node, index]));
    for (const edge of edges) {
      const start = seen(edge[2]), end = seen(edge[3]), key = numbers.get(start) * boxes.size + numbers.get(end);
      if (start !== end && !paths.has(key)) paths.set(key, Object.assign(make("path", { class: "edge", d: route(edge, start, end) }), { ends: [start, end] }));
    }
    world.replaceChildren(...opened, ...paths.values(), ...closed);
    mark();
  }
  function mark() {
    world.querySelectorAll(".chosen").forEach((element) => element.classList.remove("chosen"));
    if (chosen < 0 || !drawn) return;
    const node = seen(above(leaves[chosen]).reverse());
    boxes.get(node).classList.add("chosen");
    world.querySelectorAll(".edge").forEach((path) => path.ends.includes(node) && path.classList.add("chosen"));
  }
  function toggle(node) {
    const [x, y] = [node.X, node.Y];
    node.open = !node.open;
    draw();
    view.x += (x - node.X) * view.k;
    view.y += (y - node.Y) * view.k;
    move();
    boxes.get(node).focus({ preventScroll: true });
  }
  function fit() {
    const frame = svg.getBoundingClientRect();
    view.k = Math.min(1.2, Math.max(0.75, Math.min(frame.width / root.w, frame.height / root.h)));
    view.x = frame.width / 2 - (inputs.length ? inputs[0].X + inputs[0].w / 2 : root.w / 2) * view.k;
    if (root.w * view.k <= frame.width) view.x = (frame.width - root.w * view.k) / 2;
    view.y = Math.max(0, (frame.height - root.h * view.k) / 2);
    move();
  }
  function zoom(factor, x, y) {
    const frame = svg.getBoundingClientRect();
    const k = Math.min(4, Math.max(0.03, view.k * factor));
    const [atX, atY] = [x ?? frame.width / 2, y ?? frame.height / 2];
    view = { k, x: atX - (atX - view.x) * k / view.k, y: atY - (atY - view.y) * k / view.k };
    move();
  }
  function every(open) {
    let room = MOST;
    for (const module of modules) {
      module.open = module === root || (open && module.parent.open && (room -= module.kids.length) >= 0);
    }
    draw();
    fit();
  }
  function center(node) {
    const frame = svg.getBoundingClientRect();
    view = { k: Math.max(view.k, 0.8), x: 0, y: 0 };
    view.x = frame.width / 2 - (node.X + node.w / 2) * view.k;
    view.y = frame.height / 2 - (node.Y + node.h / 2) * view.k;
    move();
  }

  // --- by hand: pointers, wheel, keys ---
  const held = new Map();
  let dragged = false;
  svg.addEventListener("pointerdown", (event) => { held.set(event.pointerId, event); if (held.size === 1) dragged = false; });
  svg.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    if (!dragged && Math.hypot(dx, dy) < 4) return;
    if (!dragged) svg.setPointerCapture(event.pointerId);
    dragged = true;
    const other = [...held.values()].find((one) => one.pointerId !== event.pointerId);
    held.set(event.pointerId, event);
    if (other) {
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const frame = svg.getBoundingClientRect();
      zoom(apart(event) / apart(before), other.clientX - frame.left, other.clientY - frame.top);
      return;
    }
    view.x += dx;
    view.y += dy;
    move();
  });
  for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, (event) => held.delete(event.pointerId));
  svg.addEventListener("pointerleave", (event) => { if (!svg.hasPointerCapture(event.pointerId)) held.delete(event.pointerId); });
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const frame = svg.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 300), event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.key in steps) { view.x += steps[event.key][0]; view.y += steps[event.key][1]; move(); }
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  svg.addEventListener("focusin", (event) => {
    const node = [...boxes].find(([, element]) => element === event.target)?.[0];
    if (!node || !event.target.matches(":focus-visible")) return;
    const [frame, own] = [svg.getBoundingClientRect(), event.target.getBoundingClientRect()];
    if (own.left < frame.left || own.top < frame.top || own.left > frame.right - 40 || own.top > frame.bottom - 40) center(node);
  });
  return {
    zoom,
    fit,
    every,
    draw() { if (!drawn) { drawn = true; draw(); fit(); } },
    choose(place) { chosen = place; mark(); },
    reveal(place) {
      for (const node of above(leaves[place].parent)) node.open = true;
      drawn = true;
      draw();
      center(leaves[place]);
      boxes.get(leaves[place]).focus({ preventScroll: true });
    },
  };
}
