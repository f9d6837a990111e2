/**
 * A sparkline: one polyline in a small SVG. Prices are floats here, because they only become pixels.
 *
 * A canvas in each row would be a layer in each row, and each layer costs the browser time in every frame.
 */

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 60;
const HEIGHT = 18;

/** @returns {SVGSVGElement} an empty one */
export function makeSpark() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("width", String(WIDTH));
  svg.setAttribute("height", String(HEIGHT));
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "polyline"));
  return svg;
}

/** @param {SVGSVGElement} svg @param {Float64Array|null} points */
export function drawSpark(svg, points) {
  const text = points === null ? "" : polyline(points);
  if (svg.shown === text) return;
  svg.shown = text;
  svg.firstChild.setAttribute("points", text);
}

function polyline(points) {
  let [low, high] = [Infinity, -Infinity];
  for (const point of points) {
    if (point < low) low = point;
    if (point > high) high = point;
  }
  if (low > high) return "";
  const scale = high === low ? 0 : (HEIGHT - 4) / (high - low);
  const step = WIDTH / (points.length - 1);
  let text = "";
  for (let at = 0; at < points.length; at += 1) {
    if (Number.isNaN(points[at])) continue;
    const y = scale === 0 ? HEIGHT / 2 : HEIGHT - 2 - (points[at] - low) * scale;
    text += `${(at * step).toFixed(1)},${y.toFixed(1)} `;
  }
  return text;
}
