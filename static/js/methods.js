// The methods of fine-tuning: what each does, what it costs, and where it fits.

export const METHODS = {
  probe: { name: "Quick: probe", short: "quick (probe)", hint: "Keeps the backbone as it is and trains a small classifier on top. Seconds to minutes, on any computer. The right first choice, and often the best one with few images." },
  last: { name: "Middle: last layers", short: "middle (last layers)", hint: "Also adjusts the last layers of the backbone; what the layers before them make of an image is computed once. Minutes. Worth a try when the probe is not good enough." },
  lora: { name: "Slim: LoRA", short: "slim (LoRA)", hint: "Adds small matrices to the attention of a ViT and leaves the rest. Nearly as long as full fine-tuning, with less memory and less to learn by heart." },
  full: { name: "Thorough: full fine-tuning", short: "thorough (full)", hint: "Adjusts every layer of the backbone to your images. Minutes to hours. Try it when the quicker methods are not good enough and you have some hundred images or more." },
};

/** How the classifier on the frozen features is fitted, for people. */
export const HEADS = {
  auto: { name: "Automatic", hint: "The mean of a logistic regression and of discriminants. Hardly ever worse than the best of them, and nothing has to be tried out." },
  logistic: { name: "Logistic regression", hint: "Learns most where there are many images." },
  lda: { name: "Discriminant analysis", hint: "Steady with a handful of images." },
};

/** The methods that an architecture can be trained by. */
export function fitting(architecture) {
  const isViT = /vit/.test(architecture ?? "");
  return Object.keys(METHODS).filter((method) => method !== "lora" || isViT);
}

/** The recipe that a run follows: its own, or that of the run it replays. */
export const recipe = (run) => run.spec.recipe ?? run.spec;
