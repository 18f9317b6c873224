// What a form asks for one setting of a recipe; `value` is the server's default.

export const number = (path, label, value, [min, max, step = "any"], hint) => ({ path, label, value, min, max, step, hint });
export const choice = (path, label, value, options, hint) => ({ path, label, value, options, hint });
export const check = (path, label, value, hint) => ({ path, label, value, check: true, hint });
