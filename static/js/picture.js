// A picture from the server; with a key it is fetched, as an <img> cannot send one.
import { key, objectUrl, path } from "./api.js";
import { useStore } from "./store.js";
import { html, useEffect, useState } from "./view.js";

export function previewUrl(image, query) {
  return path(`/images/${image}/preview`, query);
}

export function Picture({ url, alt, testid }) {
  const held = useStore(key);
  const [shown, setShown] = useState({ source: held ? "" : url, failed: false });

  useEffect(() => {
    if (!held) {
      setShown({ source: url, failed: false });
      return undefined;
    }
    const stop = new AbortController();
    let made = "";
    objectUrl(url, stop.signal).then(
      (address) => {
        made = address;
        if (stop.signal.aborted) URL.revokeObjectURL(address);
        else setShown({ source: address, failed: false });
      },
      () => stop.signal.aborted || setShown({ source: "", failed: true }),
    );
    return () => {
      stop.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [url, held]);

  if (shown.failed) return html`<span class="picture none">No preview</span>`;
  if (!shown.source) return html`<span class="picture none" aria-hidden="true"></span>`;
  return html`<img class="picture" src=${shown.source} alt=${alt} loading="lazy" data-testid=${testid} onError=${() => setShown({ source: "", failed: true })} />`;
}

const ENDINGS = { png: "png", jpeg: "jpg", dicom: "dcm" };

/** How a picture is called everywhere: the number and format of its file, as the server says it. */
export function name({ number, format, frame }) {
  return `${number}.${ENDINGS[format]}${frame > 0 ? ` frame ${frame + 1}` : ""}`;
}
