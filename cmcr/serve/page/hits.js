// What hits and rows look like: every text is set as text, never as markup.

import { cloud } from "./media.js";

export function made(name, classes = "", text = "") {
  const element = document.createElement(name);
  if (classes) element.className = classes;
  if (text) element.textContent = text;
  return element;
}

export const readable = (modality) => modality.replaceAll("_", " ");

// A row's picture, player, turning cloud or text; of what cannot be shown, the reason.
export function shown(row, text, name, preload = "metadata") {
  const [modality] = row.split("/"), address = `/media/${row}`;
  if (modality === "text") return made("blockquote", "", text ?? name);
  const label = text ? `${readable(modality)} ${name}: ${text}` : `${readable(modality)} ${name}`;
  const failed = (element) => async (error) => {
    const why = error instanceof Error ? error.message : await reason(address);
    element.replaceWith(made("p", "note", why));
  };
  if (modality === "image") return watched(Object.assign(made("img"), { alt: label, loading: "lazy" }), address, failed);
  if (modality === "audio") {
    const player = Object.assign(made("audio"), { controls: true, preload });
    player.setAttribute("aria-label", label);
    return watched(player, address, failed);
  }
  if (modality === "point_cloud") {
    const canvas = cloud(address, `${label}, turning`, (error) => failed(canvas)(error));
    return canvas;
  }
  return watched(Object.assign(made("img"), { alt: label, loading: "lazy" }), address, failed);
}

function watched(element, address, failed) {
  element.addEventListener("error", failed(element), { once: true });
  element.src = address;
  return element;
}

async function reason(address) {
  const answer = await fetch(address);
  return answer.ok ? "cannot be shown by this browser" : (await answer.json()).error;
}

export function card(hit, scale, own, searchOn) {
  const item = made("li", hit.row === own ? "card itself" : "card"), show = made("div", "show");
  item.dataset.row = hit.row;
  const media = shown(hit.row, hit.text, hit.id, hit.rank > 24 ? "none" : "metadata"), name = hit.text ?? hit.id;
  if (media.tagName === "IMG") {
    const see = made("button", "see");
    see.type = "button";
    see.tabIndex = -1; // the button below says the same, once
    see.append(media);
    see.addEventListener("click", () => searchOn(hit));
    show.append(see);
  } else {
    show.append(media);
  }
  const caption = made("div", "caption"), title = made("span", "name");
  title.append(made("span", "rank", `${hit.rank}`), media.tagName === "BLOCKQUOTE" ? hit.id : name);
  if (hit.row === own) title.append(made("span", "soft", " (the query itself)"));
  const score = made("span", "score"), bar = made("span", "bar"), part = made("i");
  part.style.width = `${100 * scale(hit.score)}%`;
  bar.append(part);
  bar.setAttribute("aria-hidden", "true");
  const number = made("span", "", hit.score.toFixed(3));
  number.prepend(made("span", "hidden", "cosine "));
  score.append(bar, number);
  const on = made("button", "on", "Search on from this");
  on.type = "button";
  on.append(made("span", "hidden", `: ${name}`));
  on.addEventListener("click", () => searchOn(hit));
  caption.append(title, score, on);
  item.append(show, caption);
  return item;
}

// Bars are on the scale of the hits shown: cosines of one answer often differ in the second digit only.
export function scaleOf(hits) {
  const scores = hits.map((hit) => hit.score), low = Math.min(...scores), high = Math.max(...scores);
  return (score) => (high > low ? 0.06 + 0.94 * (score - low) / (high - low) : 1);
}
