// A score on a scale, with the scores at which two strangers match once in 10, 100, 1,000 … pairs.

const SVG = "http://www.w3.org/2000/svg";
const LOW = -0.2, HIGH = 1, LINE = 46, APART = 74, WIDEST = 640, ROOM = 120;

function shape(kind, attributes, text = "") {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

/** How often strangers match, in words: 0.0012 is 1 in 833. */
export function often(rate) {
  if (rate >= 0.095) return `${Math.round(100 * rate)} in 100`;
  return `1 in ${Number((1 / rate).toPrecision(2)).toLocaleString("en")}`;
}

/** Draw the scale. @param {number} score  @param {{fmr: number, score: number}[]} thresholds */
export function scale(score, thresholds) {
  // A unit is about a pixel, so that words keep their size on a phone.
  const width = Math.min(WIDEST, Math.max(innerWidth - ROOM, 200));
  const place = (value) => ((Math.min(Math.max(value, LOW), HIGH) - LOW) / (HIGH - LOW)) * width;
  const drawn = shape("svg", { class: "scale", viewBox: `-30 0 ${width + 60} 106`, role: "img" });
  drawn.setAttribute("aria-label", `Score ${score.toFixed(2)} on a scale up to 1`);
  drawn.append(
    shape("rect", { class: "bar", x: 0, y: LINE - 5, width: place(score), height: 10, rx: 5 }),
    shape("line", { x1: 0, x2: width, y1: LINE, y2: LINE }),
  );
  let last = -Infinity;
  for (const { fmr, score: at } of thresholds) {
    const x = place(at);
    drawn.append(shape("line", { x1: x, x2: x, y1: LINE - 7, y2: LINE + 7 }));
    if (x - last < APART) continue;
    drawn.append(shape("text", { x, y: LINE + 26 }, often(fmr)));
    last = x;
  }
  if (thresholds.length) drawn.append(shape("text", { x: width / 2, y: LINE + 48 }, "strangers that score as high"));
  const x = place(score);
  drawn.append(
    shape("path", { class: "mark", d: `M${x} ${LINE - 9} l-7 -11 h14 z` }),
    shape("text", { x, y: 20, class: "value" }, score.toFixed(2)),
  );
  return drawn;
}
