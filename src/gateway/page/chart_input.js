/**
 * Pan, zoom and crosshair of a chart by mouse, touch and keyboard. What it is not: the drawing.
 */

const KEYS_HELP = "Arrow keys move the crosshair. Shift and arrow keys move the chart. Plus and minus zoom. "
  + "Home shows the newest bars. Escape takes the crosshair away.";

/**
 * @param {import("./chart.js").Chart} chart
 * @param {HTMLElement} spoken an element with `aria-live`, for what the keyboard chooses
 */
export function listen(chart, spoken) {
  const canvas = chart.canvas;
  canvas.setAttribute("aria-description", KEYS_HELP);
  /** @type {Map<number, {x: number, y: number}>} */
  const pointers = new Map();
  let moved = 0;

  const place = (event) => ({ x: event.offsetX, y: event.offsetY });
  const distance = () => {
    const [one, other] = [...pointers.values()];
    return Math.max(10, Math.abs(one.x - other.x));
  };

  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, place(event));
    canvas.setPointerCapture(event.pointerId);
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    const before = pointers.get(event.pointerId);
    if (before) {
      const apart = pointers.size === 2 ? distance() : 0;
      pointers.set(event.pointerId, now);
      if (pointers.size === 2) {
        const [one, other] = [...pointers.values()];
        chart.zoom(distance() / apart, (one.x + other.x) / 2);
      } else {
        moved += Math.abs(now.x - before.x);
        chart.pan((now.x - before.x) / chart.step);
      }
    }
    if (event.pointerType === "mouse") cross(now);
  });
  const up = (event) => {
    const wasHere = pointers.delete(event.pointerId);
    // A finger that did not move has pointed at a bar.
    if (wasHere && event.type === "pointerup" && event.pointerType !== "mouse" && moved < 6) cross(place(event));
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") cross(null);
  });
  canvas.addEventListener("dblclick", () => chart.home());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) chart.pan(-event.deltaX / chart.step);
    else chart.zoom(Math.exp(-event.deltaY / 400), event.offsetX);
  }, { passive: false });

  canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const actions = {
      ArrowLeft: () => (event.shiftKey ? chart.pan(5) : step(-1)),
      ArrowRight: () => (event.shiftKey ? chart.pan(-5) : step(1)),
      "+": () => chart.zoom(1.25), "=": () => chart.zoom(1.25), "-": () => chart.zoom(0.8),
      PageUp: () => chart.pan(40), PageDown: () => chart.pan(-40),
      Home: () => chart.home(), Escape: () => cross(null),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  function cross(at) {
    chart.cross = at;
    chart.isDirty = true;
  }

  /** The crosshair goes to the next bar, and the view with it. */
  function step(bars) {
    const newest = chart.list.length - 1;
    if (newest < 0) return;
    const from = chart.cross ? chart.indexAt(chart.cross.x) : newest + 1;
    const index = Math.min(newest, Math.max(0, from + bars));
    if (chart.x(index) < chart.step) chart.pan(10);
    if (chart.x(index) > chart.plotWidth - chart.step) chart.pan(-10);
    cross({ x: chart.x(index), y: chart.cross?.y ?? -1 });
    spoken.textContent = chart.describe();
  }
}
