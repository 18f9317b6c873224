// The points of a run's curves as they come, over several attempts.

/** `shown`: for each name of a curve its points, a Map from step to value. */
export function newPoints() {
  return { shown: new Map(), earlier: new Map() };
}

/** A run that is queued again shows no curve until it says where it goes on. */
export function setAside(points) {
  for (const [name, curve] of points.shown) points.earlier.set(name, curve);
  points.shown = new Map();
}

/** Adds a point, beyond which nothing of an earlier attempt is left: an attempt that goes on from a
 * checkpoint continues the curve, and one that starts anew begins it anew. */
export function addPoint(points, name, step, value) {
  const curve = points.shown.get(name) ?? points.earlier.get(name) ?? new Map();
  points.shown.set(name, curve);
  if (curve.last >= step) {
    for (const known of [...curve.keys()]) if (known >= step) curve.delete(known);
  }
  curve.set(step, value);
  curve.last = step;
}
