// The drawing library, named in one place.
export {
  html,
  render,
  useCallback,
  useEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
} from "../vendor/htm/preact/standalone.module.js";
