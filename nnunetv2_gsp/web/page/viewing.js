// The image and the labels over it, in NiiVue's three planes.

const COLOURS = [  // red, green and blue of labels 1, 2, ..., apart for colour-blind people too
  [213, 94, 0], [0, 158, 115], [86, 180, 233], [240, 228, 66], [204, 121, 167], [230, 159, 0], [0, 114, 178],
];

const colourOf = label => COLOURS[(label - 1) % COLOURS.length];

/** Shows volumes on a canvas. */
class View {
  static async on(canvas) {
    const view = new View();
    view.nv = new niivue.Niivue({
      logLevel: "error", dragAndDropEnabled: false, multiplanarShowRender: niivue.SHOW_RENDER.NEVER,
      crosshairColor: [1, 1, 1, 0.6], crosshairWidth: 1, crosshairWidthUnit: "mm", fontColor: [1, 1, 1, 1],
    });
    await view.nv.attachToCanvas(canvas);
    new ResizeObserver(() => view.#arrange(canvas.clientWidth)).observe(canvas);
    return view;
  }

  /** Show an image, of a 4D one this frame, and the labels over it. */
  show(image, frame = 0) {
    while (this.nv.volumes.length) this.nv.removeVolume(this.nv.volumes.at(-1));
    this.nv.addVolume(image);
    if (image.nFrame4D > 1) this.nv.setFrame4D(image.id, frame);
    if (this.labels) this.nv.addVolume(this.labels);
  }

  /** Take labels to show over the image that is shown next; undefined takes none. */
  async overlay(bytes, values, opacity) {
    this.labels = bytes && (await niivue.NVImage.loadFromFile({file: new File([bytes], "labels.nii"), opacity}));
    if (!this.labels) return;
    this.labels.setColormapLabel({
      R: [0, ...values.map(value => colourOf(value)[0])], G: [0, ...values.map(value => colourOf(value)[1])],
      B: [0, ...values.map(value => colourOf(value)[2])], A: [0, ...values.map(() => 255)],
      I: [0, ...values], labels: ["", ...values.map(String)],
    });
  }

  /** Put the planes side by side where there is room, else below one another. */
  #arrange(width) {
    this.nv.setMultiplanarLayout(niivue.MULTIPLANAR_TYPE[width > 600 ? "ROW" : "COLUMN"]);
  }

  setOpacity(opacity) {
    this.nv.setOpacity(1, opacity);
  }
}
