// Tries a model on one image: the probabilities as bars beside the picture.
import { path, send } from "./api.js";
import { Bars, Card, Dropzone, Field } from "./components.js";
import { fail } from "./notices.js";
import { bytes, count, percent } from "./text.js";
import { html, useEffect, useState } from "./view.js";

const KNOWN = ["image/png", "image/jpeg", "application/dicom"];

export function Predict({ model }) {
  const [file, setFile] = useState(null);
  const [answers, setAnswers] = useState(null);
  const [busy, setBusy] = useState(false);

  const ask = async (given) => {
    if (given.length !== 1) {
      fail({ title: "One image at a time", detail: given.length === 0 ? "The folder is empty." : `${count(given.length, "file")} were given. Choose one of them.` });
      return;
    }
    const chosen = given[0].file;
    setFile(chosen);
    setAnswers(null);
    setBusy(true);
    try {
      const headers = { "Content-Type": KNOWN.includes(chosen.type) ? chosen.type : "application/octet-stream" };
      const response = await send("POST", path(`/models/${model.id}/predict`), { headers, body: chosen });
      setAnswers((await response.json()).items);
    } catch (problem) {
      setFile(null);
      fail(problem);
    } finally {
      setBusy(false);
    }
  };
  return html`<${Card} title="Try it on an image" id="predict-title">
    <div class=${file ? "predict chosen" : "predict"}>
      <${Dropzone} id="predict-file" testid="predict-file" disabled=${busy} accept=".dcm,.dicom,.png,.jpg,.jpeg,image/png,image/jpeg,application/dicom,*/*"
        title="Choose an image, or drop it here" hint="DICOM, PNG or JPEG. It is not stored." onFiles=${ask} />
      ${file && html`<${Shown} file=${file} />`}
      ${busy && html`<p class="loading" role="status">Asking the model. The first image after a while takes longer.</p>`}
      ${answers?.length > 0 && html`<${Answers} answers=${answers} />`}
    </div>
  <//>`;
}

function Answers({ answers }) {
  const [at, setAt] = useState(0);
  const answer = answers[Math.min(at, answers.length - 1)];
  const rows = answer.probabilities.map(({ label, probability }, place) => ({ label, value: probability, text: percent(probability, 1), strong: place === 0 }));
  return html`<div class="answer" role="status" data-testid="prediction">
    ${answers.length > 1 && html`<${Field} label=${`Frame (${answers.length} in the file)`} id="predict-frame">
      <input id="predict-frame" type="number" min="1" max=${answers.length} value=${at + 1} onInput=${(event) => setAt(Math.min(answers.length, Math.max(1, Number(event.target.value) || 1)) - 1)} /><//>`}
    <p>Most probable: <strong class="label" data-testid="prediction-label">${answer.label}</strong></p>
    <${Bars} rows=${rows} max=${1} caption="Probability of each class" />
    <p class="hint">Probabilities among the classes that the model knows. It cannot say "something else".</p>
  </div>`;
}

/** PNG and JPEG are drawn from the local file; browsers cannot draw DICOM. */
function Shown({ file }) {
  const [address, setAddress] = useState("");
  useEffect(() => {
    if (!/^image\/(png|jpeg)$/.test(file.type)) {
      setAddress("");
      return undefined;
    }
    const made = URL.createObjectURL(file);
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  return html`<figure class="shown">
    ${address ? html`<img src=${address} alt="The chosen image" />` : html`<span class="picture none">DICOM: no preview before upload</span>`}
    <figcaption><span class="break">${file.name}</span>, ${bytes(file.size)}</figcaption>
  </figure>`;
}
