// The explorer: a list of recordings, and the card of the one that is chosen. What they say is only ever text here.

import { make, say, settle, whole, placed } from "./stream.js";

const ROW = 66, SPARE = 6; // the height of a row in px; rows that are drawn above and below those in sight
// In ms: until a card is built; until the kernel searches whole texts; until it is said that the kernel does not answer.
const PAUSE = 120, TYPING = 250, PATIENCE = 6000;
const ORDERS = { newest: ["at", -1], oldest: ["at", 1], slowest: ["seconds", -1], "most tokens": ["tokens", -1] };

/** Return the function that reads a column: plain values, or those of a table by their numbers. */
function reader(column) {
  if (!column) return () => null;
  return Array.isArray(column) ? (place) => column[place] : (place) => column.values[column.codes[place]];
}

const counted = (number) => number.toLocaleString("en-US");

function seconds(value) {
  if (value === null) return "";
  if (value < 0.001) return "<1 ms";
  return value < 0.1 ? `${Math.round(value * 1000)} ms` : value < 10 ? `${value.toFixed(2)} s` : `${counted(Math.round(value))} s`;
}

/** A menu of the values of some columns, with their numbers of recordings; hidden where there is nothing to choose. */
function menu(count, ...columns) {
  const node = make("select"), keep = new Map(), names = [];
  for (const [name, column] of columns.filter((one) => one[1])) {
    const numbers = new Array(column.values.length).fill(0);
    for (let place = 0; place < count; place++) numbers[column.codes[place]] += 1;
    const options = numbers.flatMap((number, code) => {
      if (!number || column.values[code] === null) return [];
      const value = String(keep.size);
      keep.set(value, (place) => column.codes[place] === code);
      return [make("option", "", `${column.values[code]} (${counted(number)})`, { value })];
    });
    if (!options.length) continue;
    names.push(name);
    node.append(...(columns.length > 1 ? [make("optgroup", "", "", { label: name }, ...options)] : options));
  }
  node.prepend(make("option", "", `all ${names.join(" and ")}`, { value: "" }));
  node.setAttribute("aria-label", names.join(" and "));
  node.value = "";
  node.hidden = keep.size < 2;
  return { node, test: () => keep.get(node.value) };
}

function explore({ model, el }) {
  const data = JSON.parse(model.get("rows")), embedded = model.get("cards");
  const { count, columns } = data;
  const read = Object.fromEntries(["at", "seconds", "tokens", "name", "kind", "prompt", "answer", "notebook", "file", "state", "problem", "outcome"]
    .map((name) => [name, reader(columns[name])]));
  read.name = (place) => reader(columns.model)(place) ?? reader(columns.tool)(place) ?? read.kind(place) ?? "";
  const texts = Array.from({ length: count }, (_, place) =>
    [read.name, read.kind, read.prompt, read.answer, read.notebook, read.file, read.problem, read.outcome].map((get) => get(place) ?? "").join("\n").toLowerCase());
  const own = Math.random().toString(36).slice(2), cards = new Map();
  let order = Array.from(texts.keys()), shown = order, chosen = -1, found = new Set(), keep = [], timers = {};

  const search = make("input", "", "", { type: "search", placeholder: "Search (press /)", "aria-label": "search recordings", autocomplete: "off", maxlength: 500, spellcheck: "false" });
  const menus = [
    menu(count, ["notebooks", columns.notebook]),
    menu(count, ["models", columns.model], ["tools", columns.tool]),
    menu(count, ["kinds", columns.kind]),
    menu(count, ["states", columns.state]),
    menu(count, ["outcomes", columns.outcome]),
  ];
  const sorted = make("select", "", "", { "aria-label": "order" }, ...Object.keys(ORDERS).map((name) => make("option", "", name, { value: name })));
  const status = make("span", "", "", { role: "status" }), limit = make("span");
  const stored = Object.keys(embedded).length, partly = "Only the beginnings of long texts are searched";
  if (!model.send) limit.textContent = [stored < count && `This page holds the cards of ${counted(stored)} recordings.`, data.clipped && `${partly}.`].filter(Boolean).join(" ");
  const rows = make("div", "nbx-rows", "", { role: "presentation" });
  const list = make("div", "nbx-list", "", { role: "listbox", tabindex: 0, "aria-label": "recordings" }, rows);
  const pane = make("div", "nbx-card", "", { role: "region", tabindex: -1, "aria-label": "recording" });
  const root = make("div", "nbr nbx", "", {},
    make("div", "nbx-bar", "", { role: "search" }, search, ...menus.map((one) => one.node), sorted),
    make("div", "nbx-status", "", {}, status, limit, ...data.notes.map((note) => make("span", "nbr-error", note))),
    make("div", "nbx-body", "", {}, list, pane));
  settle(root);
  el.append(root);

  /** The place of a row in the list, by its number from the top. */
  function option(at) {
    const place = shown[at];
    const stamp = read.at(place) === null ? "" : new Date(read.at(place) * 1000).toISOString().slice(0, 16).replace("T", " ");
    const facts = [read.tokens(place) && `${counted(read.tokens(place))} tokens`, seconds(read.seconds(place))].filter(Boolean);
    const position = { role: "option", id: `${own}-${place}`, "aria-selected": String(place === chosen), "aria-posinset": at + 1, "aria-setsize": shown.length };
    const node = make("div", "nbx-row", "", position,
      make("div", "nbx-line", "", {}, read.outcome(place) && make("span", "nbr-word", read.outcome(place)),
        make("span", "nbx-text nbr-title", read.name(place)), make("span", "nbx-facts", stamp)),
      make("div", "nbx-line", "", {}, make("span", "nbx-text", read.prompt(place) || read.kind(place) || "")),
      make("div", "nbx-line nbx-soft", "", {}, read.problem(place) && make("span", "nbr-error", read.problem(place)),
        make("span", "nbx-text", read.answer(place) || ""), make("span", "nbx-facts", facts.join(" · "))));
    node.style.top = `${at * ROW}px`;
    return node;
  }
  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + (list.clientHeight || 400)) / ROW) + SPARE);
    const nodes = [];
    for (let at = first; at < last; at++) nodes.push(option(at));
    if (!shown.length) nodes.push(make("div", "nbx-none", count ? "No recording matches. Press Escape to clear the search." : "There are no recordings."));
    rows.replaceChildren(...nodes);
    rows.style.height = `${shown.length * ROW}px`;
    const at = shown.indexOf(chosen);
    if (at >= first && at < last) list.setAttribute("aria-activedescendant", `${own}-${chosen}`);
    else list.removeAttribute("aria-activedescendant");
  }

  /** Show what the card's place is to hold. */
  function fill(...nodes) {
    for (const stop of keep) stop();
    keep = [];
    pane.replaceChildren(...nodes);
    pane.scrollTop = 0;
    pane.setAttribute("aria-busy", "false");
  }
  function absent() {
    fill(make("p", "nbx-none", model.send
      ? "The kernel does not answer: it is busy, or it is not running. Run the cell again, or wait."
      : `The card of this recording is not in this page, which holds those of ${counted(stored)} of ${counted(count)}. To see it, run: nbreplay show ${read.file(chosen)}`));
  }
  function show() {
    clearTimeout(timers.patience);
    if (chosen < 0) return fill(make("p", "nbx-none", ""));
    const state = cards.get(chosen) || embedded[chosen];
    if (state) {
      fill();
      pane.append(state.problem ? make("p", "nbr-error", state.problem) : whole(state, keep).node);
    } else if (model.send) {
      pane.setAttribute("aria-busy", "true");
      model.send({ do: "card", place: chosen });
      timers.patience = setTimeout(absent, PATIENCE);
    } else {
      absent();
    }
  }
  function choose(at, soon) {
    const place = shown.length ? shown[Math.max(0, Math.min(shown.length - 1, at))] : -1;
    if (place !== chosen) {
      chosen = place;
      clearTimeout(timers.card);
      timers.card = setTimeout(show, soon ? 0 : PAUSE);
    }
    const top = shown.indexOf(chosen) * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    draw();
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const tests = menus.map((one) => one.test()).filter(Boolean);
    shown = order.filter((place) => tests.every((test) => test(place)) && (found.has(place) || words.every((word) => texts[place].includes(word))));
    say(status, shown.length === count ? `${counted(count)} recordings` : `${counted(shown.length)} of ${counted(count)} recordings`);
    if (shown.includes(chosen)) choose(shown.indexOf(chosen));
    else { list.scrollTop = 0; choose(0); }
  }
  function ask() {
    model.send({ do: "search", text: search.value });
    clearTimeout(timers.silent);
    timers.silent = setTimeout(() => say(limit, `${partly}: the kernel does not answer.`), PATIENCE);
  }
  function typed() {
    found = new Set();
    filter();
    clearTimeout(timers.typing);
    // The rows hold the beginnings of the texts; the kernel knows them whole.
    if (model.send && data.clipped && search.value.trim()) timers.typing = setTimeout(ask, TYPING);
  }
  function sort() {
    const [name, sign] = ORDERS[sorted.value], get = read[name];
    const value = (place) => get(place) ?? (sign > 0 ? Infinity : -Infinity);
    order = Array.from(texts.keys()).sort((a, b) => sign * (value(a) - value(b)) || a - b);
    filter();
    choose(0);
  }

  function heard(message) {
    if (message.do === "card") {
      cards.set(message.place, message.card || { problem: message.problem });
      if (message.place === chosen) show();
    }
    if (message.do === "found" && message.text === search.value) {
      clearTimeout(timers.silent);
      say(limit, "");
      found = new Set(message.places);
      filter();
    }
  }
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 7, PageUp: -7, Home: -Infinity, End: Infinity };
  function pressed(event) {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = Math.max(0, shown.indexOf(chosen));
    let act = null;
    if (target === search) {
      if (key === "Escape") act = () => { if (search.value) { search.value = ""; typed(); } else list.focus(); };
      else if (key === "ArrowDown" || key === "Enter") act = () => list.focus();
    } else if (target === list) {
      if (key in steps) act = () => choose(at + steps[key]);
      else if (key === "Enter") act = () => pane.focus();
      else if (key === "Escape") act = () => search.focus();
    } else if (pane.contains(target) && key === "Escape") act = () => list.focus();
    if (key === "/" && target !== search) act = () => { search.focus(); search.select(); };
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }
  root.addEventListener("keydown", pressed);
  search.addEventListener("input", typed);
  for (const one of menus) one.node.addEventListener("change", filter);
  sorted.addEventListener("change", sort);
  list.addEventListener("scroll", () => requestAnimationFrame(draw));
  list.addEventListener("click", (event) => {
    choose(Math.floor((event.clientY - list.getBoundingClientRect().top + list.scrollTop) / ROW), true);
    if (root.clientWidth <= 640) setTimeout(() => pane.scrollIntoView({ block: "nearest" }), PAUSE);
  });
  model.on("msg:custom", heard);
  filter();
  const seen = new ResizeObserver(draw);
  seen.observe(list);
  return () => {
    seen.disconnect();
    for (const timer of Object.values(timers)) clearTimeout(timer);
    fill();
    model.off("msg:custom", heard);
  };
}

export default { initialize: placed(explore), render: explore };
