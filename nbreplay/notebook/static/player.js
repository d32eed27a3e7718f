// Plays the cards of an output, where scripts may run. What the cards say is in their HTML; this only hides what had not come.
(() => {
  const make = (tag, text, attributes) => {
    const node = document.createElement(tag);
    node.textContent = text;
    for (const name in attributes) node.setAttribute(name, attributes[name]);
    return node;
  };
  const clock = (ms) => (ms / 1000).toFixed(2);
  const look = "font:inherit;color:inherit;background:none;border:1px solid #8888;border-radius:4px;padding:1px 8px;cursor:pointer;margin-right:4px";
  // A part of an answer: what its texts hold, and how much of them had come when.
  const part = (node) => {
    const line = node.tagName === "DETAILS", walk = document.createTreeWalker(line ? node.firstChild : node, 4), texts = [];
    while (walk.nextNode()) texts.push([walk.currentNode, walk.currentNode.data]);
    const all = texts.reduce((sum, one) => sum + one[1].length, 0), steps = [];
    return { steps, show(ms) {
      if (!steps.length) return;
      const whole = steps[steps.length - 1][1] || 1, step = steps[steps.findLastIndex((one) => one[0] <= ms)];
      let left = ms === Infinity ? all : !step ? 0 : line ? Math.ceil((all * step[1]) / whole) : step[1];
      if (line) node.hidden = !step && ms !== Infinity;
      for (const [text, data] of texts) {
        const said = data.slice(0, Math.max(0, left));
        if (text.data !== said) text.data = said;
        left -= data.length;
      }
    } };
  };
  const card = (node) => {
    const parts = {};
    for (const one of node.querySelectorAll("[data-part]")) parts[one.dataset.part] = part(one);
    let until = 0, now = 0;
    for (const word of node.dataset.beats.split(" ")) {
      if (word[0] === "@") { now = word.slice(1); continue; }
      const [gap, size] = word.split("+"), steps = parts[now] && parts[now].steps;
      until += Number(gap);
      if (size && steps) steps.push([until, Number(size) + (steps.length && steps[steps.length - 1][1])]);
    }
    return { node, until, show: (ms) => Object.values(parts).forEach((one) => one.show(ms >= until ? Infinity : ms)) };
  };
  const player = (cards, place) => {
    const until = Math.max(...cards.map((one) => one.until));
    const button = make("button", "", { type: "button", style: look }), time = make("span", "", { style: "font-variant-numeric:tabular-nums" });
    const slider = make("input", "", { type: "range", min: 0, max: until, "aria-label": "time in the answer", style: "width:min(40%,300px);vertical-align:middle" });
    let at = until, speed = 1, frame = 0, before = 0;
    const show = (ms) => {
      at = Math.max(0, Math.min(until, ms));
      slider.value = at;
      time.textContent = ` ${clock(at)}/${clock(until)} s `;
      for (const one of cards) one.show(at >= until ? Infinity : at);
    };
    const stop = () => { cancelAnimationFrame(frame); frame = 0; button.textContent = "▶ play"; };
    const step = (now) => {
      show(speed === Infinity ? until : at + (now - before) * speed);
      before = now;
      if (at >= until || !slider.isConnected) stop(); else frame = requestAnimationFrame(step);
    };
    button.onclick = () => {
      if (frame) return stop();
      if (at >= until) show(0);
      before = performance.now();
      button.textContent = "⏸ pause";
      frame = requestAnimationFrame(step);
    };
    slider.oninput = () => { stop(); show(Number(slider.value)); };
    const speeds = [[1, "1×"], [4, "4×"], [Infinity, "∞"]].map(([value, text]) => {
      const one = make("button", text, { type: "button", style: look, "aria-label": `speed ${text}` });
      one.onclick = () => { speed = value; mark(); };
      return [one, value];
    });
    const mark = () => speeds.forEach(([one, value]) => { one.setAttribute("aria-pressed", value === speed); one.style.fontWeight = value === speed ? 700 : 400; });
    mark();
    stop();
    show(until);
    const bar = make("div", "", { role: "group", "aria-label": "replay of the stream", style: "margin:6px 0" });
    bar.append(button, slider, time, ...speeds.map((one) => one[0]));
    // The keys are the player's, not the notebook's.
    bar.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
    place(bar);
  };
  for (const root of document.currentScript.parentNode.querySelectorAll("[data-nbreplay]:not([data-ready])")) {
    root.dataset.ready = "";
    const cards = [...root.querySelectorAll("[data-beats]")].map(card);
    if (root.dataset.together && cards.length) player(cards, (bar) => root.append(bar));
    else for (const one of cards) player([one], (bar) => one.node.insertBefore(bar, one.node.querySelector("[data-foot]")));
    // The widget of a kernel that runs, if it is in this page.
    const views = window.nbreplayViews;
    if (views && views[root.dataset.nbreplay]) views[root.dataset.nbreplay](root);
  }
})();
