/**
 * A sparkline in a small canvas. Prices are floats here, because they only become pixels.
 */

let line = "#888";

/** Another theme. @param {string} color */
export function setSparkColor(color) { line = color; }

/** @param {HTMLCanvasElement} canvas @param {Float64Array|null} points */
export function drawSpark(canvas, points) {
  const ratio = globalThis.devicePixelRatio || 1;
  // The size is kept, because to ask for it costs a layout.
  canvas.wide ??= canvas.clientWidth;
  canvas.tall ??= canvas.clientHeight;
  const [width, height] = [canvas.wide, canvas.tall];
  if (width === 0 || height === 0) {
    canvas.wide = undefined;
    canvas.tall = undefined;
    return;
  }
  if (canvas.width !== Math.round(width * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  if (points === null) return;
  let [low, high] = [Infinity, -Infinity];
  for (const point of points) {
    if (point < low) low = point;
    if (point > high) high = point;
  }
  if (low > high) return;
  const range = high - low;
  const y = (point) => (range === 0 ? height / 2 : height - 2 - ((point - low) / range) * (height - 4));
  const step = width / (points.length - 1);
  context.strokeStyle = line;
  context.lineWidth = 1.2;
  context.beginPath();
  let isBegun = false;
  for (let at = 0; at < points.length; at += 1) {
    if (Number.isNaN(points[at])) continue;
    if (isBegun) context.lineTo(at * step, y(points[at]));
    else context.moveTo(at * step, y(points[at]));
    isBegun = true;
  }
  context.stroke();
}
