// Puts the widgets of an exported page in place of what stands there for readers without script. No kernel, no network.

const { scripts, css, states } = JSON.parse(document.getElementById("nbreplay-cards").textContent);
const views = {};
for (const [name, text] of Object.entries(scripts)) {
  const source = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  views[name] = (await import(source)).default;
  URL.revokeObjectURL(source);
}
const style = document.createElement("style");
style.textContent = css;
document.head.append(style);
for (const el of document.querySelectorAll("[data-nbreplay]")) {
  const state = states[el.dataset.nbreplay];
  if (!state) continue;
  el.replaceChildren();
  views[state._anywidget_id].render({ model: { get: (name) => state[name], on() {}, off() {} }, el });
}
