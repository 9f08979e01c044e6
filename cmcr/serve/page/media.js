// Clouds that turn, and sounds that are recorded: drawn and encoded here, nothing is loaded for it.

const STRIDE = 6; // x, y, z and red, green, blue of a point
const still = { all: matchMedia("(prefers-reduced-motion: reduce)").matches };
const clouds = new Set();
let running = false;

export const isStill = () => still.all;

export function holdStill(value) {
  still.all = value;
  if (!value) begin();
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (target.cloud) target.cloud.visible = isIntersecting;
    else if (isIntersecting && target.show) {
      target.show();
      target.show = null;
    }
  }
  begin();
});

// A canvas that shows the points behind an address and turns them, as a drag does; fetched when it comes into view.
export function cloud(address, label, failed) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 340;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvas.show = () => fetched(address).then((bytes) => {
    canvas.cloud = { canvas, points: new Float32Array(bytes), turn: 0.6, visible: true, held: false, moved: false };
    clouds.add(canvas.cloud);
    draw(canvas.cloud);
    begin();
  }, failed);
  seen.observe(canvas);
  canvas.addEventListener("pointerdown", (event) => {
    if (!canvas.cloud) return;
    canvas.setPointerCapture(event.pointerId);
    Object.assign(canvas.cloud, { held: true, from: event.clientX, began: canvas.cloud.turn, moved: false });
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.cloud?.held) return;
    canvas.cloud.moved ||= Math.abs(event.clientX - canvas.cloud.from) > 4;
    canvas.cloud.turn = canvas.cloud.began + (event.clientX - canvas.cloud.from) / 60;
    draw(canvas.cloud);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => { if (canvas.cloud) canvas.cloud.held = false; });
  }
  canvas.addEventListener("click", (event) => { if (canvas.cloud?.moved) event.stopPropagation(); });
  return canvas;
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.arrayBuffer();
}

function begin() {
  if (running || still.all) return;
  running = true;
  let last = performance.now();
  const step = (now) => {
    for (const each of clouds) {
      if (!each.canvas.isConnected) clouds.delete(each);
      else if (each.visible && !each.held) {
        each.turn += (now - last) / 3500;
        draw(each);
      }
    }
    last = now;
    running = !still.all && [...clouds].some((each) => each.visible);
    if (running) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function draw({ canvas, points, turn }) {
  const context = canvas.getContext("2d"), size = canvas.width, count = points.length / STRIDE;
  const yaw = Math.sin(turn), along = Math.cos(turn), tilt = Math.sin(0.38), level = Math.cos(0.38);
  const order = new Array(count), across = new Float32Array(count), up = new Float32Array(count), near = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const x = points[i * STRIDE], y = points[i * STRIDE + 1], z = points[i * STRIDE + 2];
    const depth = x * yaw + z * along;
    across[i] = x * along - z * yaw;
    up[i] = y * level - depth * tilt;
    near[i] = y * tilt + depth * level;
    order[i] = i;
  }
  order.sort((a, b) => near[a] - near[b]);
  context.clearRect(0, 0, size, size);
  const dot = Math.max(2.5, Math.min(8, size / Math.sqrt(count) / 1.5));
  for (const i of order) {
    const light = 0.45 + 0.55 * (near[i] + 1) / 2, tint = points[i * STRIDE + 3] < 0 ? [0.3, 0.56, 0.82] : [3, 4, 5].map((c) => points[i * STRIDE + c]);
    context.fillStyle = `rgb(${tint.map((part) => Math.round(255 * part * light)).join(" ")})`;
    context.fillRect(size * (0.5 + 0.46 * across[i]) - dot / 2, size * (0.5 - 0.46 * up[i]) - dot / 2, dot, dot);
  }
}

// Records a sound until it is told to end, as a WAV file; a browser's own format is read by few others.
export async function record(most) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(stream), parts = [];
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  const ended = new Promise((resolve) => recorder.addEventListener("stop", resolve));
  recorder.start();
  const timer = setTimeout(() => recorder.state === "recording" && recorder.stop(), 1000 * most);
  const file = ended.then(async () => {
    clearTimeout(timer);
    stream.getTracks().forEach((track) => track.stop());
    const context = new AudioContext();
    try {
      return wav(await context.decodeAudioData(await new Blob(parts).arrayBuffer()));
    } finally {
      context.close();
    }
  });
  return { file, stop: () => recorder.state === "recording" && recorder.stop() };
}

function wav(buffer) {
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, c) => buffer.getChannelData(c));
  const view = new DataView(new ArrayBuffer(44 + 2 * buffer.length));
  const write = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  write(0, "RIFF"); view.setUint32(4, 36 + 2 * buffer.length, true); write(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, buffer.sampleRate, true); view.setUint32(28, 2 * buffer.sampleRate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true); write(36, "data"); view.setUint32(40, 2 * buffer.length, true);
  for (let i = 0; i < buffer.length; i++) {
    const mean = channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length;
    view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, mean)) * 32767, true);
  }
  return new File([view.buffer], "recording.wav", { type: "audio/wav" });
}
