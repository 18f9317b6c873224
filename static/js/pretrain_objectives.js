// The objectives of pretraining: what each asks of the network, in plain words, and its settings.

import { check, choice, number } from "./settings.js";

const hidden = number("objective.hidden", "Inner width", 2048, [2, 16384, 1], "Numbers inside the small network on top that only training uses.");
const output = (value) => number("objective.output", "Output width", value, [2, 65536, 1], "Numbers that this small network gives.");
const temperature = (value) => number("objective.temperature", "Temperature", value, [0.001, 10], "Lower looks harder at the images that are easily confused.");
const momentum = (value) => number("objective.momentum", "Teacher's calm", value, [0, 1], "Share of itself that the teacher keeps at each step; near 1 it follows slowly.");

const MATCHING = [
  number("objective.nodes", "Images in a graph", "", [2, 128, 1], "More make the puzzle harder. Empty: 16, fewer when the batch is smaller."),
  number("objective.neighbours", "Neighbours", "", [1, 127, 1], "How many most similar images each image is joined to. Empty: 5."),
  number("objective.alpha", "Share of the whole image (alpha)", 0.8, [0, 1], "How far likeness of whole images counts; the rest goes to their regions."),
  choice("objective.local.reading", "Likeness of regions", "eq3", { eq3: "all regions, as the paper's text has it", pseudo: "the closest regions only, as its appendix has it", none: "not looked at" }, "How the regions of two images are compared."),
  { ...number("objective.local.gamma", "Closest regions", 20, [1, 4096, 1], "How many pairs of regions are kept."), when: ["objective.local.reading", "pseudo"] },
  choice("objective.mode", "Partners", "bijection", { bijection: "every image gets one", partial: "an image may stay alone" }, "Whether an image must be matched even when nothing resembles it."),
  number("objective.noise.scale", "Noise", 1, [0, 100], "Chance added to the likeness while matching, so that the network must be clear. 0.05 is calmer, 0 is none."),
  number("objective.lambda", "Nudge (lambda)", 80, [0.000001, 1000000], "How far likeness is pushed to see whether the matching changes. Raise it when many graphs give no gradient."),
  number("objective.edge_weight", "Weight of neighbours", 1, [0, 100], "How far it counts that neighbours are matched with neighbours. 0 looks at single images only."),
  number("objective.message_layers", "Rounds of exchange", 2, [0, 8, 1], "How often each image takes up something from its neighbours before matching."),
  number("objective.channels", "Width of the projection", 128, [2, 4096, 1], "Numbers per image that matching works with."),
  choice("objective.convolution", "Way of exchange", "gcn", { gcn: "an image counts like one neighbour, as in the paper", graph_conv: "an image counts by itself, as in the authors' code" }, "The second keeps images apart that are still much alike, as they are before anything is learnt."),
  { ...choice("objective.degree_norm", "Weight of an image's neighbours", "kipf", { kipf: "counting the image itself", paper: "as the paper prints it" }, "How the exchange between neighbours is averaged."), when: ["objective.convolution", "gcn"] },
  choice("objective.hamming", "Loss divided by", "sum", { sum: "nothing", mean_nodes: "images of a graph", mean_graphs: "graphs of a batch" }, "Also changes how strong the nudge is."),
  check("objective.symmetric", "Match both ways", true, "From the first view to the second and back."),
  check("objective.implicit", "Leave the nudge out of the gradient's size", false, "The form of implicit MLE: the gradient is not divided by lambda."),
];

export const OBJECTIVES = {
  matching: {
    name: "Graph matching (recommended)", short: "graph matching",
    hint: "Shows the network every image twice, cropped and coloured differently, and lets it find the pairs again. It looks at which images resemble which, not only at single ones. This is LVM-Med's method.",
    settings: MATCHING,
  },
  vicregl: {
    name: "VICRegL", short: "VICRegL",
    hint: "The two views of an image shall give the same numbers, and so shall the same place in both. For findings that fill a small part of the image.",
    settings: [hidden, output(2048),
      number("objective.alpha", "Share of the whole image (alpha)", 0.75, [0, 1], "The rest goes to single places."),
      number("objective.gamma", "Closest places", 20, [1, 4096, 1], "How many pairs of places are compared."),
      number("objective.invariance", "Weight: same numbers", 25, [0, 1000], "How far the two views shall agree."),
      number("objective.variance", "Weight: spread", 25, [0, 1000], "How far images shall differ from each other."),
      number("objective.covariance", "Weight: no repetition", 1, [0, 1000], "How far each number shall say something of its own.")],
  },
  barlow_twins: {
    name: "Barlow Twins", short: "Barlow Twins",
    hint: "The two views of an image shall give the same numbers, and each number shall say something of its own. Copes with small batches.",
    settings: [hidden, output(2048), number("objective.redundancy", "Weight: no repetition", 0.005, [0, 10], "How far each number shall say something of its own.")],
  },
  simclr: {
    name: "SimCLR", short: "SimCLR",
    hint: "Draws the two views of an image together and pushes all other images of the batch away. Wants large batches.",
    settings: [hidden, output(128), temperature(0.1)],
  },
  moco_v2: {
    name: "MoCo v2", short: "MoCo v2",
    hint: "Like SimCLR, with a memory of earlier images, so that a small batch is enough. Wants many images.",
    settings: [hidden, output(128), temperature(0.2), momentum(0.999),
      number("objective.queue", "Memory", 65536, [16, 1048576, 1], "Earlier images that are kept for comparison. Best below the number of images.")],
  },
  dino: {
    name: "DINO", short: "DINO",
    hint: "A student network learns to say what a slower teacher network makes of another view. Made for ViT networks; slow.",
    settings: [hidden, number("objective.bottleneck", "Narrow layer", 256, [2, 16384, 1], "Numbers before the last layer."), output(4096), temperature(0.1),
      number("objective.teacher_temperature", "Teacher's temperature", 0.04, [0.001, 10], "Lower makes the teacher more decided."),
      momentum(0.996), number("objective.centre_momentum", "Calm of the centre", 0.9, [0, 1], "How slowly the teacher's average moves.")],
  },
};
