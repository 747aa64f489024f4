"use strict";
for (const player of document.querySelectorAll(".player")) {
  const frames = Number(player.dataset.frames), width = Number(player.dataset.width), height = Number(player.dataset.height);
  const { times, values } = JSON.parse(player.querySelector("script").textContent);
  const slider = player.querySelector("input"), button = player.querySelector("button"), output = player.querySelector("output");
  // A frame is cut out on its own canvas first, so that smoothing never mixes it with its neighbour on the sheet.
  const cut = new OffscreenCanvas(width, height).getContext("2d");
  const screens = [...player.querySelectorAll("canvas")].map((canvas) => {
    const zoom = Math.max(1, Math.ceil(720 / Math.max(width, height)));
    canvas.width = zoom * width;
    canvas.height = zoom * height;
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    return { pen, sheet: new Image(), canvas };
  });
  let shown = frames - 1, timer = 0;

  // The growth chart gets a hairline that follows the first player.
  const plot = player === document.querySelector(".player") ? document.querySelector("[data-cursor]") : null;
  let line = null, box = [], limits = [];
  if (plot && slider) {
    box = plot.dataset.box.split(" ").map(Number);
    limits = plot.dataset.limits.split(" ").map(Number);
    line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    line.setAttribute("class", "cursor");
    line.setAttribute("y1", box[1]);
    line.setAttribute("y2", box[3]);
    plot.querySelector("svg").append(line);
  }

  const show = (i) => {
    shown = i;
    for (const { pen, sheet, canvas } of screens) {
      if (!sheet.complete || !sheet.naturalWidth) continue;
      cut.drawImage(sheet, 0, i * height, width, height, 0, 0, width, height);
      pen.drawImage(cut.canvas, 0, 0, canvas.width, canvas.height);
    }
    if (!slider) return;
    slider.value = i;
    output.textContent = "t = " + times[i];
    slider.setAttribute("aria-valuetext", output.textContent);
    if (line) {
      const x = box[0] + ((values[i] - limits[0]) / (limits[1] - limits[0])) * (box[2] - box[0]);
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      line.style.visibility = x < box[0] - 0.5 || x > box[2] + 0.5 ? "hidden" : "visible";
    }
  };
  const pause = () => {
    clearInterval(timer);
    timer = 0;
    button.setAttribute("aria-label", "play");
    button.querySelector("path").setAttribute("d", "M4 2.5v11l9-5.5z");
  };
  const play = () => {
    if (shown === frames - 1) show(0);
    button.setAttribute("aria-label", "pause");
    button.querySelector("path").setAttribute("d", "M3.5 2.5h3v11h-3zM9.5 2.5h3v11h-3z");
    timer = setInterval(() => (shown < frames - 1 ? show(shown + 1) : pause()), Math.min(160, Math.max(60, 5000 / frames)));
  };
  if (slider) {
    slider.addEventListener("input", () => { pause(); show(Number(slider.value)); });
    button.addEventListener("click", () => (timer ? pause() : play()));
  }
  for (const { sheet, canvas } of screens) {
    sheet.onload = () => show(shown);
    sheet.src = canvas.dataset.src;
  }
  show(shown);
}
