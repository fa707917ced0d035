// A trial lights up everywhere at once; a click keeps it lit.
const everywhere = (trial) => document.querySelectorAll(`[data-trial="${trial}"]`);
const tip = document.getElementById("tip");

// What is said of a mark is shown at once, and not a second time by the browser.
for (const title of document.querySelectorAll("svg title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.parentNode.setAttribute("aria-label", title.textContent);
  title.remove();
}

document.addEventListener("pointerover", (event) => {
  for (const lit of document.querySelectorAll(".hot")) lit.classList.remove("hot");
  const trial = event.target.closest("[data-trial]")?.dataset.trial;
  document.body.classList.toggle("lit", trial !== undefined);
  if (trial !== undefined) for (const one of everywhere(trial)) one.classList.add("hot");
  const words = event.target.closest("[data-tip]")?.dataset.tip;
  tip.style.display = words ? "block" : "none";
  if (words) tip.textContent = words;
});
document.addEventListener("pointermove", (event) => {
  const left = Math.min(event.clientX + 16, window.innerWidth - tip.offsetWidth - 8);
  const top = Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 8);
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
});
document.addEventListener("click", (event) => {
  const trial = event.target.closest("[data-trial]")?.dataset.trial;
  if (trial !== undefined) for (const one of everywhere(trial)) one.classList.toggle("pinned");
});

// A range drawn along an axis of the parallel coordinates keeps the trials within it; a click lets go of it.
const parallel = document.querySelector("svg.parallel");
const ranges = new Map();

const height = (event) => {
  const point = new DOMPoint(event.clientX, event.clientY);
  return point.matrixTransform(parallel.getScreenCTM().inverse()).y;
};

const keep = () => {
  const curves = [...parallel.querySelectorAll(".curve")];
  const within = (curve) => {
    const heights = curve.dataset.heights.split(" ").map(Number);
    return [...ranges].every(([axis, [low, high]]) => heights[axis] >= low && heights[axis] <= high);
  };
  const kept = new Set(curves.filter(within).map((curve) => curve.closest(".trial").dataset.trial));
  const drawn = new Set(curves.map((curve) => curve.closest(".trial").dataset.trial));
  for (const one of document.querySelectorAll(".trial, tr[data-trial], .heat")) {
    one.classList.toggle("off", ranges.size > 0 && !kept.has(one.dataset.trial));
  }
  document.getElementById("kept").textContent = ranges.size ? `${kept.size} of ${drawn.size} trials are within.` : "";
};

const brush = (axis) => {
  const range = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  range.setAttribute("class", "range");
  for (const side of ["x", "width"]) range.setAttribute(side, axis.getAttribute(side));
  range.setAttribute("height", 0);
  axis.before(range);
  let start = null;
  const show = (low, high) => {
    range.setAttribute("y", low);
    range.setAttribute("height", high - low);
  };
  axis.addEventListener("pointerdown", (event) => {
    axis.setPointerCapture(event.pointerId);
    start = height(event);
    ranges.delete(axis.dataset.axis);
    show(0, 0);
    keep();
    event.preventDefault();
  });
  axis.addEventListener("pointermove", (event) => {
    if (start === null) return;
    const [low, high] = [start, height(event)].sort((a, b) => a - b);
    if (high - low < 3) return;
    ranges.set(axis.dataset.axis, [low, high]);
    show(low, high);
    keep();
  });
  axis.addEventListener("pointerup", () => (start = null));
  axis.addEventListener("pointercancel", () => (start = null));
};

if (parallel) for (const axis of parallel.querySelectorAll(".brush")) brush(axis);
