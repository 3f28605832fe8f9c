// Mouse, touch and keys to movements of the camera.

const WHEEL = 0.0016;

/** move(change) is called with what to do to the camera; tap(point) and hover(point or null) with device pixels. */
export function listen(canvas, { move, tap, hover }) {
  const pointers = new Map();
  let travelled = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const ratio = canvas.width / box.width;
    return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = at(event);
    hover(here);
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    pointers.set(event.pointerId, here);
    travelled += Math.hypot(here.x - before.x, here.y - before.y);
    canvas.classList.toggle("dragging", travelled > 4);
    if (others.length) {
      const [other] = others;
      const factor = distance(here, other) / distance(before, other);
      move((camera) => camera.zoom(factor, { x: (here.x + other.x) / 2, y: (here.y + other.y) / 2 }));
    } else move((camera) => camera.pan(here.x - before.x, here.y - before.y));
  });
  const end = (event) => {
    if (pointers.delete(event.pointerId) && event.type === "pointerup" && travelled <= 4) tap(at(event));
    canvas.classList.remove("dragging");
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => hover(null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    move((camera) => camera.zoom(Math.exp(-pixels * WHEEL), at(event)));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => move((camera) => camera.zoom(2, at(event))));
  canvas.addEventListener("keydown", (event) => {
    const step = 80;
    const keys = {
      ArrowLeft: (camera) => camera.pan(step, 0), ArrowRight: (camera) => camera.pan(-step, 0),
      ArrowUp: (camera) => camera.pan(0, step), ArrowDown: (camera) => camera.pan(0, -step),
      "+": (camera) => camera.zoom(1.5), "=": (camera) => camera.zoom(1.5), "-": (camera) => camera.zoom(1 / 1.5), 0: (camera) => camera.fit(),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    move(keys[event.key]);
  });
}

const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y) || 1;
