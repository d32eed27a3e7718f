// The cards of a cell. What a recording says is only ever text here: no markup is made of it.

const SPEEDS = [[1, "1×"], [4, "4×"], [Infinity, "∞"]];

/** Make an element, with its class, text, attributes and children. */
function make(tag, name = "", text = "", attributes = {}, ...children) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter(Boolean));
  return node;
}

/** Set a text only where it changes: what a reader has selected stays. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Shorten a text, up to the end of a word. */
function shorten(text, size) {
  if (text.length <= size) return text;
  const head = text.slice(0, size), end = head.search(/\s\S*$/);
  return `${(end > size / 2 ? head.slice(0, end) : head).trimEnd()}…`;
}

/** A track: its text, and how long it was at which time. */
function track(state) {
  return { ...state, text: state.text || "", at: [], ends: [] };
}

/** Read a card's state: tracks with the times of their pieces, when each chunk came. */
function timeline(state) {
  const tracks = (state.tracks || []).map(track);
  const times = [];
  let at = 0, now = 0;
  const sizes = tracks.map(() => 0);
  for (const word of (state.beats || "").split(" ")) {
    if (!word) continue;
    if (word[0] === "@") { now = Number(word.slice(1)); continue; }
    const [gap, size] = word.split("+");
    at += Number(gap);
    times.push(at);
    const one = tracks[now];
    if (size === undefined || !one) continue;
    sizes[now] += Number(size);
    one.at.push(at);
    one.ends.push(sizes[now]);
  }
  return { state, tracks, times, until: times.length ? at : 0 };
}

/** How many of the sorted numbers are at most `limit`. */
function upto(numbers, limit) {
  let low = 0, high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= limit) low = middle + 1; else high = middle;
  }
  return low;
}

/** The text of a track at a time. */
function textAt(one, at) {
  if (at === Infinity || !one.at.length) return one.text;
  const count = upto(one.at, at);
  return count ? one.text.slice(0, one.ends[count - 1]) : "";
}

/** Draw when chunks came, as bars. */
function bars(times, until) {
  const width = 60, counts = new Array(width).fill(0);
  for (const at of times) counts[Math.min(width - 1, Math.floor((at * width) / (until + 1)))] += 1;
  const most = Math.max(...counts);
  const path = counts.map((count, place) => {
    const high = count ? Math.max(1, (16 * count) / most) : 0;
    return high ? `M${place * 2} 18v-${high.toFixed(1)}h1.6v${high.toFixed(1)}z` : "";
  }).join("");
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  drawn.setAttribute("viewBox", `0 0 ${width * 2} 18`);
  drawn.setAttribute("class", "nbr-bars");
  drawn.setAttribute("role", "img");
  drawn.setAttribute("aria-label", `arrival of ${times.length} chunks`);
  drawn.append(line);
  return drawn;
}

/** Show a text with the words that differ from another answer marked, and what is equal and far from them folded. */
function sayMarked(node, text, marks) {
  if (node.querySelector("mark") && node.marked === text) return;
  node.replaceChildren();
  node.marked = text;
  let at = 0;
  const equal = (piece, last) => {
    const low = at ? 120 : 0, high = piece.length - (last ? 0 : 120);
    if (high - low < 400) return node.append(piece);
    const fold = make("details", "nbr-skip", "", {}, make("summary", "", `… ${piece.slice(low, high).trim().split(/\s+/).length} equal words …`));
    fold.append(piece.slice(low, high));
    return node.append(piece.slice(0, low), fold, piece.slice(high));
  };
  for (const word of marks.split(" ")) {
    const [gap, size] = word.split("+").map(Number);
    equal(text.slice(at, at + gap), false);
    node.append(make("mark", "", text.slice(at + gap, at + gap + size)));
    at += gap + size;
  }
  equal(text.slice(at), true);
}

// What stands before a text, and whether it is written like what is asked; what a text is folded under.
const MARKS = { user: ["asked: ", true], user_audio: ["asked: ", true], audio: ["", true], tool_result: ["result: ", true], sent: ["→ ", false], received: ["← ", false] };
const LABELS = { reasoning: "reasoning", refusal: "refused", system: "instructions", history: "said before" };

/** A part of an answer: text, reasoning folded, or the row of a tool call. */
function part(one) {
  const choice = one.choice ? ` choice ${one.choice + 1}` : "";
  if (one.kind !== "tool_call") {
    const [mark, soft] = MARKS[one.kind] || ["", false];
    const text = make("div", soft ? "nbr-asked" : "nbr-text");
    const label = (LABELS[one.kind] || "") + choice;
    const node = label ? make("details", "nbr-soft", "", one.kind === "refusal" || one.choice ? { open: "" } : {},
      make("summary", "", label.trim()), text) : text;
    if (one.when) node.dataset.when = one.when;
    return { node, show(said) { if (one.marks && said === one.text) sayMarked(text, said, one.marks); else say(text, said && mark + said); node.hidden = !said && one.kind !== "text"; } };
  }
  const line = make("summary"), given = make("pre"), answer = make("pre"), label = make("div", "nbr-asked", "result");
  const node = make("details", "nbr-call", "", one.ran || one.marks ? { open: "" } : {}, line, given, label, answer);
  if (one.when) line.dataset.when = one.when;
  return {
    node,
    show(said, over) {
      const whole = over || (one.text && said === one.text);
      const flat = (whole && one.line) || said.replace(/\s*\n\s*/g, " ");
      const result = over && one.answered && !one.ran ? one.result || "" : "";
      const ending = [];
      if (whole && one.invalid) ending.push("invalid JSON");
      if (over && one.answered && !one.ran) ending.push(one.error ? `failed: ${one.error}` : result ? "" : "ok", one.took);
      const called = `${one.name || "…"}(${shorten(flat, 90)})${result && ` → ${shorten(result.replace(/\s+/g, " "), 60)}`}`;
      say(line, [called, ...ending.filter(Boolean)].join(" · "));
      line.classList.toggle("nbr-error", Boolean((whole && one.invalid) || (over && one.error)));
      if (whole && one.marks) sayMarked(given, one.json || one.text, one.marks);
      else say(given, whole && one.json ? one.json : said);
      given.hidden = Boolean(whole && one.ran && !one.marks && !one.invalid && flat.length <= 90);
      say(answer, over ? one.result || "" : "");
      label.hidden = answer.hidden = !(over && one.result);
      node.hidden = !over && !said && Boolean(one.at.length);
    },
  };
}

/** A card; `show(at)` shows it as it was at a time in ms, `Infinity` as it is. */
function card(state) {
  const told = timeline(state);
  const word = make("span", "nbr-word"), facts = make("span", "nbr-facts", (state.facts || []).join(" · "));
  const body = make("div");
  const parts = told.tracks.map(part);
  body.append(...parts.map((one) => one.node));
  const foot = make("div", "nbr-foot", (state.foot || []).join(" · "));
  const node = make("article", "nbr-card", "", { "aria-busy": String(Boolean(state.busy)) },
    make("div", "nbr-top", "", {}, word, make("span", "nbr-title", state.title), facts),
    state.asked && make("div", "nbr-asked", `asked: ${state.asked}`), body,
    state.error && make("div", "nbr-error", `error: ${state.error}`),
    state.note && make("pre", "", state.note));
  node.append(foot);
  if (state.raw) {
    const left = (state.chunks || 0) - state.raw.length;
    const text = state.raw.join("\n") + (left > 0 ? `\n… ${left} more` : "");
    node.append(make("details", "nbr-soft", "", {}, make("summary", "", `raw chunks (${state.chunks.toLocaleString("en")})`), make("pre", "", text)));
  }
  const made = {
    node, told, body, parts,
    name(now, cost) {
      const shown = now || state.word || "";
      say(word, shown);
      word.dataset.word = shown;
      word.hidden = !shown;
      if (cost) say(foot, [cost, ...(state.foot || [])].join(" · "));
    },
    show(at) {
      const over = at >= told.until;
      parts.forEach((one, place) => {
        const state = told.tracks[place];
        one.show(textAt(state, over ? Infinity : at), over || at >= (state.answeredAt || Infinity));
      });
    },
    /** Show more of an answer that streams. */
    more({ again, tracks, texts, chunks, at }) {
      tracks.forEach(([kind, choice, name], place) => {
        if (place === told.tracks.length) {
          told.tracks.push(track({ kind, choice, name }));
          parts.push(part(told.tracks[place]));
          body.append(parts[place].node);
        }
        told.tracks[place].name = name;
        if (again) told.tracks[place].text = "";
      });
      for (const [place, text] of texts) told.tracks[place].text += text;
      parts.forEach((one, place) => one.show(told.tracks[place].text, false));
      if (chunks) say(facts, `${chunks} chunks · ${(at / 1000).toFixed(1)} s`);
    },
  };
  made.name(state.now);
  made.show(Infinity);
  return made;
}

/** The player under one card, or under two: play, pause, scrub, at a speed. */
function player(cards, keep) {
  const until = Math.max(...cards.map((one) => one.told.until));
  const time = make("span", "nbr-time"), button = make("button", "", "", { type: "button" });
  const slider = make("input", "", "", { type: "range", min: 0, max: until, step: 1, "aria-label": "time in the answer" });
  let at = until, speed = 1, frame = 0, before = 0;
  const seconds = (ms) => (ms / 1000).toFixed(2);
  function show(ms) {
    at = Math.max(0, Math.min(until, ms));
    slider.value = String(at);
    slider.setAttribute("aria-valuetext", `${seconds(at)} of ${seconds(until)} s`);
    say(time, `${seconds(at)}/${seconds(until)} s`);
    for (const one of cards) one.show(at >= until ? Infinity : at);
  }
  function stop() {
    if (frame) cancelAnimationFrame(frame);
    frame = 0;
    say(button, "▶ play");
    button.setAttribute("aria-label", "play");
  }
  function step(now) {
    show(speed === Infinity ? until : at + (now - before) * speed);
    before = now;
    if (at >= until) stop(); else frame = requestAnimationFrame(step);
  }
  function play() {
    if (at >= until) show(0);
    before = performance.now();
    say(button, "⏸ pause");
    button.setAttribute("aria-label", "pause");
    frame = requestAnimationFrame(step);
  }
  const speeds = SPEEDS.map(([value, label]) => {
    const one = make("button", "", label, { type: "button", "aria-pressed": String(value === speed), "aria-label": `speed ${label}` });
    one.addEventListener("click", () => {
      speed = value;
      for (const other of speeds) other.setAttribute("aria-pressed", String(other === one));
    });
    return one;
  });
  button.addEventListener("click", () => (frame ? stop() : play()));
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  keep.push(stop);
  stop();
  show(until);
  const drawn = cards.map((one) => one.told.times.length > 1 && bars(one.told.times, until));
  const node = make("div", "nbr-play", "", { role: "group", "aria-label": "replay of the stream" }, ...drawn, button, slider, time, ...speeds);
  return { node, play(factor) { speed = factor; show(0); play(); } };
}

/** A card with its player, where there is something to play. */
function whole(state, keep) {
  const made = card(state);
  if (made.told.until > 0) {
    made.player = player([made], keep);
    made.node.insertBefore(made.player.node, made.node.querySelector(".nbr-foot"));
  } else if (state.untimed) {
    made.node.insertBefore(make("div", "nbr-foot", "no timings recorded: there is nothing to play"), made.node.querySelector(".nbr-foot"));
  }
  return made;
}

/** One line for a card among several. */
function line(state, size = 90) {
  const said = (state.tracks || []).find((one) => one.kind === "text" || one.kind === "refusal");
  const called = (state.tracks || []).filter((one) => one.kind === "tool_call")
    .map((one) => `${one.name}(${one.line || (one.text || "").replace(/\s*\n\s*/g, " ")})${one.result ? ` → ${one.result}` : ""}`).join(", ");
  const text = ((said && said.text) || called || state.error || state.note || "").replace(/\s+/g, " ").trim();
  return [state.now || state.word, state.title, shorten(text, size), ...(state.facts || []).slice(0, 2)].filter(Boolean).join(" · ");
}

function table(rows) {
  const head = make("tr", "", "", {}, ...["", "calls", "tokens", "failed"].map((text) => make("th", "", text)));
  return make("table", "", "", {}, head, ...rows.map((row) => make("tr", "", "", {}, ...row.map((value) => make("td", "", value.toLocaleString("en"))))));
}

/** Give a widget the colours of the reader's own theme outside of Jupyter, and its own keys in a notebook. */
function settle(root) {
  if (!document.querySelector("[data-jp-theme-light], .jp-Notebook")) root.classList.add("nbr-alone");
  // Otherwise Enter on a button edits the cell, and a letter is a command of the notebook.
  root.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
}

function render({ model, el, told = { words: [], costs: [] } }) {
  const root = make("div", "nbr"), said = make("div", "nbr-said", "", { role: "status", "aria-live": "polite" });
  settle(root);
  el.append(root, said);
  let keep = [], live = new Map();

  function clear() {
    for (const stop of keep) stop();
    keep = [];
    root.replaceChildren();
    root.classList.remove("nbr-together");
  }
  function folded(made, state, open) {
    const shown = { ...state };
    const top = make("summary", "", line(shown), { title: line(shown, 1000) });
    const fold = make("details", "nbr-fold", "", open ? { open: "" } : {}, top, made.node);
    fold.style.marginLeft = `${Math.min(state.depth || 0, 6) * 1.6}em`;
    return fold;
  }
  /** Draw what is final. */
  function draw() {
    const states = model.get("cards"), rows = model.get("rows"), head = model.get("head");
    if (!states.length && !rows.length && live.size) return;
    clear();
    live = new Map();
    if (head) root.append(make("div", "nbr-head", head));
    if (rows.length) root.append(table(rows));
    const made = states.map((state, place) => {
      const one = (model.get("together") ? card : (given) => whole(given, keep))({ ...state, now: told.words[place] });
      one.name(told.words[place], told.costs[place]);
      return one;
    });
    if (model.get("together") && made.length) {
      const sides = make("div", "nbr-together", "", {}, ...made.map((one) => one.node));
      root.append(sides);
      if (made.some((one) => one.told.until > 0)) root.append(player(made, keep).node);
    } else if (made.length === 1) {
      root.append(made[0].node);
    } else {
      root.append(...made.map((one, place) => folded(one, { ...states[place], now: told.words[place] }, false)));
    }
  }
  /** Draw what is under way. */
  function under({ order, cards, growth }) {
    arrange(order, cards);
    for (const [own, told] of Object.entries(growth)) live.get(own)?.made.more(told);
  }
  function arrange(order, cards) {
    let fresh = false;
    for (const [own, state] of Object.entries(cards)) {
      const same = JSON.stringify(state);
      if (live.get(own)?.same === same) continue; // said again, for those who were not yet there
      const made = state.busy ? card(state) : whole(state, keep);
      live.set(own, { made, state, same });
      fresh = true;
      if (state.play && made.player) made.player.play(state.play);
    }
    if (live.shown === order.join(" ") && !fresh) return;
    live.shown = order.join(" ");
    root.replaceChildren();
    const shown = order.map((own) => live.get(own)).filter(Boolean);
    if (shown.length > 1) root.append(make("div", "nbr-head", `${shown.length} calls`));
    root.append(...shown.map(({ made, state }) => (shown.length > 1 ? folded(made, state, state.busy) : made.node)));
  }
  function heard(message) {
    if (message.do === "more") under(message);
    if (message.do === "words" && JSON.stringify(message) !== JSON.stringify(told)) {
      told = message;
      draw();
      say(said, message.said);
    }
  }
  const changed = () => draw();
  model.on("msg:custom", heard);
  for (const name of ["cards", "rows"]) model.on(`change:${name}`, changed);
  draw();
  model.send?.({ do: "ready" }); // the words may have been sent before
  return () => {
    clear();
    model.off("msg:custom", heard);
    for (const name of ["cards", "rows"]) model.off(`change:${name}`, changed);
  };
}

// Show a widget in the place of the cards that its output stores, while the page has the widget's model.
//
// What is stored stays in the output, so that it can be read where there is no model. A place comes before the model or
// after it: the output's own script asks for the view by the name of the place.
function placed(render) {
  return ({ model }) => {
    const views = (window.nbreplayViews ??= {}), shown = new Map();
    let name = "", told;
    function take(place) {
      for (const [other, undo] of shown) if (!other.isConnected || other === place) { undo(); shown.delete(other); }
      const before = [...place.childNodes];
      place.replaceChildren();
      const stop = render({ model, el: place, told });
      shown.set(place, () => { stop(); place.replaceChildren(...before); });
    }
    function move() {
      if (views[name] === take) delete views[name];
      name = model.get("place");
      if (!name) return;
      views[name] = take;
      for (const place of document.querySelectorAll(`[data-nbreplay="${name}"]`)) take(place);
    }
    function heard(message) { if (message.do === "words") told = message; }
    model.on("msg:custom", heard);
    model.on("change:place", move);
    move();
    return () => {
      model.off("msg:custom", heard);
      model.off("change:place", move);
      if (views[name] === take) delete views[name];
      for (const undo of shown.values()) undo();
    };
  };
}

// What the explorer shows cards with.
export { make, say, settle, whole, placed };
export default { initialize: placed(render), render };
