// A photo that somebody drops, pastes, chooses or takes, and the face that was found on it.

const SVG = "http://www.w3.org/2000/svg";

export class Photo {
  /** @param {HTMLElement} place  @param {() => void} changed  called when there is another photo */
  constructor(place, changed) {
    place.append(document.querySelector("#photo-template").content.cloneNode(true));
    const find = (selector) => place.querySelector(selector);
    Object.assign(this, {
      name: place.dataset.name, place, changed, file: null, stream: null,
      drop: find(".drop"), image: find("img"), video: find("video"), faces: find(".faces"),
      camera: find(".camera"), told: find(".told"), hint: find(".hint"), mask: find(".masked select"),
    });
    find("h2").textContent = place.dataset.title;
    find("[type=file]").addEventListener("change", ({ target }) => {
      if (target.files.length) this.take(target.files[0]);
      target.value = "";
    });
    this.camera.hidden = !navigator.mediaDevices?.getUserMedia;
    this.camera.addEventListener("click", () => (this.stream ? this.shoot() : this.open()));
    this.drop.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.drop.classList.add("over");
    });
    this.drop.addEventListener("dragleave", () => this.drop.classList.remove("over"));
    this.drop.addEventListener("drop", (event) => {
      event.preventDefault();
      this.drop.classList.remove("over");
      if (event.dataTransfer.files.length) this.take(event.dataTransfer.files[0]);
    });
  }

  /** "true" or "false" as somebody chose, or null: the service looks. */
  get isMasked() {
    return this.mask.value || null;
  }

  /** Take a file as the photo. */
  take(file) {
    this.close();
    this.file = file;
    URL.revokeObjectURL(this.image.src);
    this.image.src = URL.createObjectURL(file);
    this.image.alt = `${this.place.dataset.title}: ${file.name}`;
    this.image.hidden = false;
    this.hint.hidden = this.faces.hidden = true;
    this.mask.value = "";
    this.tell("");
    this.changed();
  }

  async open() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    } catch (error) {
      this.tell(`The camera cannot be used: ${error.message}`);
      return;
    }
    this.video.srcObject = this.stream;
    await this.video.play();
    this.video.hidden = false;
    this.image.hidden = this.hint.hidden = this.faces.hidden = true;
    this.camera.textContent = "Take the photo";
  }

  async shoot() {
    const canvas = document.createElement("canvas");
    canvas.width = this.video.videoWidth;
    canvas.height = this.video.videoHeight;
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
    this.take(new File([blob], "camera.jpg", { type: "image/jpeg" }));
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = this.video.srcObject = null;
    this.video.hidden = true;
    this.camera.textContent = "Use the camera";
  }

  /** Draw the box and the landmarks of the face that the service found. */
  show(face) {
    const edge = face.box[2] - face.box[0];
    const draw = (kind, attributes) => {
      const shape = document.createElementNS(SVG, kind);
      for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
      this.faces.append(shape);
    };
    this.faces.replaceChildren();
    this.faces.setAttribute("viewBox", `0 0 ${face.width} ${face.height}`);
    const [x, y, right, bottom] = face.box;
    draw("rect", { x, y, width: right - x, height: bottom - y, rx: edge / 30, "stroke-width": edge / 60 });
    for (const [cx, cy] of face.landmarks) draw("circle", { cx, cy, r: edge / 45, "stroke-width": edge / 150 });
    this.faces.removeAttribute("hidden");
    this.tell(describe(face));
  }

  tell(text) {
    this.told.textContent = text;
  }
}

function describe({ quality, others, note, mask_worn: worn }) {
  const parts = [`Face of ${Math.round(quality.size)} pixels`];
  if (Math.abs(quality.yaw) > 20) parts.push(`turned aside by ${Math.round(Math.abs(quality.yaw))}°`);
  if (typeof worn === "number") parts.push(worn >= 0.5 ? "wears a mask" : "no mask");
  if (others) parts.push(`${others} more in the photo`);
  if (note) parts.push(note);
  return `${parts.join(", ")}.`;
}
