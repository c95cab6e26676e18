// The page's state is a layer, a head, a query and a position that is pointed at; `draw` shows it.
"use strict";
window.qattn = (() => {
  const data = JSON.parse(document.getElementById("attention").textContent);
  const {names, layers, palettes} = data, T = names.length;
  const state = {layer: 0, head: 0, query: T - 1, position: T - 1, fixed: false};
  const at = (id) => document.getElementById(id);
  let models = {};

  // Numbers: float32, of a layer once it is looked at.
  const unpacked = (text) => text &&
    new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const numbers = (layer) => (layer.unpacked ??= {
    weights: unpacked(layer.weights), scores: unpacked(layer.scores),
    couplings: unpacked(layer.couplings),
  });
  const ofHead = (array, head) => array && array.subarray(head * T * T, (head + 1) * T * T);
  const largest = (values) => {
    let found = 0;
    for (const v of values) if (Math.abs(v) > found && Number.isFinite(v)) found = Math.abs(v);
    return found;
  };

  // A head as T x T numbers: weights w, scores z, weights at J = 0, couplings J.
  const headOf = (layer, head) => {
    const all = numbers(layer), beta = layer.beta[head];
    const w = ofHead(all.weights, head), z = ofHead(all.scores, head);
    const found = {w, z, J: ofHead(all.couplings, head), beta, bias: layer.field_bias?.[head]};
    found.seen = (i, j) => z[i * T + j] > -Infinity;
    if (layer.coupled) {
      found.alone = Float64Array.from(z, (score) => 1 / (1 + Math.exp(-beta * score)));
      if (layer.normalize) for (let i = 0; i < T; i++) {
        const row = found.alone.subarray(i * T, (i + 1) * T), sum = row.reduce((a, b) => a + b, 0);
        row.forEach((value, j) => { row[j] = value / sum; });
      }
    }
    return found;
  };

  // What partners do to a spin on average: Σ_k J_jk ⟨s_k⟩ over those that the query sees.
  const pullOf = (layer, head, i, j) => {
    if (!head.J || layer.normalize) return NaN;
    const of = {spin: (w) => 2 * w - 1, occupation: (w) => 2 * w, field: () => -1}[layer.interaction];
    let pull = 0;
    for (let k = 0; k < T; k++)
      if (head.seen(i, k)) pull += head.J[j * T + k] * of(head.w[i * T + k]);
    return pull;
  };

  const tint = (palette, share) => {
    const place = Math.round(Math.min(Math.max(share, 0), 1) * (palette.length - 1));
    return palette[place];
  };
  const signed = (value, size) => tint(palettes.signed, size ? (1 + value / size) / 2 : 0.5);

  const ofQuery = (layer, head, i) => {
    const halved = layer.kind === "ising" || layer.kind === "sigmoid";
    const rows = [];
    for (let j = 0; j < T; j++) {
      const at = i * T + j, seen = head.seen(i, j);
      const value = (x) => (seen && x !== undefined ? x : NaN);
      const weight = value(head.w[at]), alone = value(head.alone?.[at]);
      const score = value(head.z[at]);
      rows.push({
        x: j, name: names[j], weight, alone, difference: weight - alone, score,
        field: halved ? score / 2 : score, pull: seen ? pullOf(layer, head, i, j) : NaN,
      });
    }
    return rows;
  };

  // Every number of the tables, exact on hovering.
  const show = (id, value, digits = 4) => {
    const cell = at(id);
    if (!cell) return;
    const isNumber = typeof value === "number";
    const known = value !== undefined && value !== null && !Number.isNaN(value);
    const text = isNumber ? value.toFixed(digits).replace("-", "−") : value;
    cell.textContent = known ? text : "–";
    cell.title = known && isNumber ? String(value) : "";
  };

  const drawMap = (name, values) => {
    const source = models[`${name}_source`];
    if (!source) return;
    source.data.image[0].set(values ?? new Float32Array(T * T).fill(NaN));
    source.change.emit();
  };

  const drawTables = (layer, head, rows) => {
    const i = state.query, p = state.position, row = rows[p];
    const total = (key) => rows.reduce((sum, r) => sum + (Number.isNaN(r[key]) ? 0 : r[key]), 0);
    show("query-name", `${i}  ${names[i]}`);
    show("sees", `${rows.filter((r) => !Number.isNaN(r.weight)).length} of ${T}`);
    show("sum", total("weight"));
    show("sum-alone", head.alone ? total("alone") : NaN);
    show("beta", head.beta);
    show("bias", head.bias);
    show("source", layer.source);
    show("position-name", `${p}  ${names[p]}`);
    for (const key of ["weight", "alone", "difference", "score", "field", "pull"]) show(key, row[key]);
    const list = at("partners");
    if (list) list.replaceChildren(...partnersOf(head, i, p).map(([k, J]) => {
      const item = document.createElement("li"), number = document.createElement("b");
      number.textContent = `${J < 0 ? "−" : "+"}${Math.abs(J).toFixed(4)}`;
      number.style.color = J < 0 ? palettes.down : palettes.up;
      number.title = String(J);
      item.append(number, ` with ${k} `, token(names[k]));
      return item;
    }));
    if (models.mean_count) models.mean_count.location = total("weight");
  };

  const token = (name) => Object.assign(document.createElement("code"), {textContent: name});

  // The strongest couplings of a position to others that the query sees.
  const partnersOf = (head, i, p) => {
    if (!head.J) return [];
    const found = [];
    for (let k = 0; k < T; k++) {
      const J = head.J[p * T + k];
      if (k !== p && J !== 0 && head.seen(i, k)) found.push([k, J]);
    }
    return found.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 5);
  };

  const drawTokens = (head, rows, tops) => {
    const partners = new Map(partnersOf(head, state.query, state.position));
    [...at("tokens").children].forEach((button, j) => {
      const seen = !Number.isNaN(rows[j].weight), share = seen ? rows[j].weight / tops.w : 0;
      button.style.background = seen ? tint(palettes.weights, share) : "";
      button.style.color = share > 0.55 ? "white" : "";
      button.style.borderBottomColor = partners.has(j) ? signed(partners.get(j), tops.partner) : "";
      button.classList.toggle("absent", !seen);
      button.classList.toggle("query", j === state.query);
      button.classList.toggle("pointed", j === state.position);
      button.setAttribute("aria-pressed", j === state.query);
    });
  };

  // In maps the first row is at the top.
  const box = (model, left, right, top, bottom) => model?.setv({left, right, top, bottom});

  const draw = () => {
    const layer = layers[state.layer], head = headOf(layer, state.head);
    const i = state.query, p = state.position, rows = ofQuery(layer, head, i);
    const {weights, couplings} = numbers(layer);
    const tops = {
      w: largest(rows.map((r) => r.weight)) || 1,
      map: state.fixed ? 1 : Math.max(largest(head.w), largest(head.alone ?? [])) || 1,
      J: (head.J && largest(state.fixed ? couplings : head.J)) || 1,
      partner: head.J ? largest(head.J.subarray(p * T, (p + 1) * T)) : 1,
    };
    const columns = Object.fromEntries(Object.keys(rows[0]).map((k) => [k, rows.map((r) => r[k])]));
    const sign = (x) => (x < 0 ? palettes.down : palettes.up);
    columns.colour = columns.difference.map(sign);
    columns.sign = columns.field.map(sign);
    models.bars.data = columns;
    const hidden = (values) => values && Float32Array.from(values, (v, n) => head.z[n] > -Infinity ? v : NaN);
    drawMap("pattern", hidden(head.w));
    drawMap("alone", hidden(head.alone));
    drawMap("couplings", head.J);
    models.weight_colours.high = tops.map;
    models.coupling_colours?.setv({low: -tops.J, high: tops.J});
    for (const name of ["weights", "difference", "fields"]) {
      if (models[`${name}_query`]) models[`${name}_query`].location = i;
      models[`${name}_here`]?.setv({left: p - 0.5, right: p + 0.5});
    }
    for (const name of ["pattern", "alone"]) box(models[`${name}_row`], -0.5, T - 0.5, i - 0.5, i + 0.5);
    box(models.couplings_row, -0.5, T - 0.5, p - 0.5, p + 0.5);
    let end = T;
    while (end > 0 && !head.seen(i, end - 1)) end--;
    box(models.absent_columns, end - 0.5, T - 0.5, -0.5, T - 0.5);
    box(models.absent_rows, -0.5, end - 0.5, end - 0.5, T - 0.5);
    if (models.potential_source) {
      const values = layer.potential?.[state.head] ?? [];
      models.potential_source.data = {count: values.map((_, c) => c), value: values.map((v) => v ?? NaN)};
    }
    drawTables(layer, head, rows);
    drawTokens(head, rows, tops);
    const strip = at("tokens"), {offsetTop, offsetHeight} = strip.children[i];
    if (offsetTop < strip.scrollTop || offsetTop + offsetHeight > strip.scrollTop + strip.clientHeight)
      strip.scrollTop = offsetTop - strip.clientHeight / 2;
    for (const name of ["layer", "head", "query"]) at(name).value = state[name];
    for (const b of document.querySelectorAll("#heads button"))
      b.classList.toggle("chosen", +b.dataset.layer === state.layer && +b.dataset.head === state.head);
    history.replaceState(null, "", `#layer=${state.layer}&head=${state.head}&query=${i}`);
  };

  const set = (changes) => {
    const next = {...state, ...changes};
    next.layer = Math.min(Math.max(next.layer, 0), layers.length - 1);
    next.head = Math.min(Math.max(next.head, 0), layers[next.layer].beta.length - 1);
    for (const key of ["query", "position"]) next[key] = Math.min(Math.max(next[key], 0), T - 1);
    if (Object.keys(state).every((key) => state[key] === next[key])) return;
    Object.assign(state, next);
    draw();
  };
  const point = (x, y, map) => {
    if (map !== "potential") set({position: map === "couplings" ? y : x});
  };
  const choose = (x, y, map) => {
    if (map === "potential") return;
    if (map === "couplings") set({position: y});
    else set(map === "pattern" || map === "alone" ? {query: y, position: x} : {query: x, position: x});
  };

  const options = (select, count, label) => select.replaceChildren(...Array.from(
    {length: count}, (_, n) => new Option(label(n), n)));

  const thumbnail = (layer, l, h) => {
    const head = headOf(layer, h), top = largest(head.w) || 1;
    const canvas = Object.assign(document.createElement("canvas"), {width: T, height: T});
    const context = canvas.getContext("2d");
    head.w.forEach((w, n) => {
      context.fillStyle = head.z[n] > -Infinity ? tint(palettes.weights, w / top) : "#eeeeee";
      context.fillRect(n % T, Math.floor(n / T), 1, 1);
    });
    const button = Object.assign(document.createElement("button"), {title: `layer ${data.numbers[l]}, head ${h}`});
    Object.assign(button.dataset, {layer: l, head: h});
    button.append(canvas);
    button.onclick = () => set({layer: l, head: h});
    return button;
  };

  const KEYS = {ArrowLeft: ["query", -1], ArrowRight: ["query", 1], ArrowUp: ["head", -1],
    ArrowDown: ["head", 1], PageUp: ["layer", -1], PageDown: ["layer", 1]};

  const start = (made) => {
    models = made;
    options(at("layer"), layers.length, (l) => `${data.numbers[l]}`);
    options(at("head"), layers[0].beta.length, (h) => `${h}`);
    options(at("query"), T, (i) => `${i}  ${names[i]}`);
    at("tokens").replaceChildren(...names.map((name, j) => {
      const button = document.createElement("button"), place = document.createElement("small");
      place.textContent = j;
      button.append(name, place);
      button.onclick = () => set({query: j, position: j});
      button.onmouseenter = button.onfocus = () => set({position: j});
      return button;
    }));
    at("heads").replaceChildren(...layers.map((layer, l) => {
      const row = document.createElement("div"), label = document.createElement("span");
      label.textContent = `layer ${data.numbers[l]}`;
      row.append(label, ...layer.beta.map((_, h) => thumbnail(layer, l, h)));
      return row;
    }));
    for (const name of ["layer", "head", "query"])
      at(name).onchange = (event) => set({[name]: +event.target.value});
    at("fixed").onchange = (event) => set({fixed: event.target.checked});
    document.addEventListener("keydown", (event) => {
      const key = KEYS[event.key];
      if (!key || event.target.tagName === "SELECT") return;
      event.preventDefault();
      const [name, step] = key;
      set(name === "query" ? {query: state.query + step, position: state.query + step}
        : {[name]: state[name] + step});
    });
    for (const [name, value] of new URLSearchParams(location.hash.slice(1)))
      if (name in state && /^\d+$/.test(value)) state[name] = +value;
    const asked = {...state};
    Object.assign(state, {layer: -1});
    set({...asked, position: asked.query});
  };
  return {start, point, choose, state, models: () => models};
})();
