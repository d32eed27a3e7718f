// Puts the cards of an exported page in place of what stands there for readers without script. No kernel, no network.

const { esm, css, states } = JSON.parse(document.getElementById("nbreplay-cards").textContent);
const source = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
const { default: view } = await import(source);
URL.revokeObjectURL(source);
const style = document.createElement("style");
style.textContent = css;
document.head.append(style);
for (const el of document.querySelectorAll("[data-nbreplay]")) {
  const state = states[el.dataset.nbreplay];
  if (!state) continue;
  el.replaceChildren();
  view.render({ model: { get: (name) => state[name], on() {}, off() {} }, el });
}
