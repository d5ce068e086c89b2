// Screenshots, if there are any: each is an image that Flower has looked at, fetched when it comes into view.

import { analysisPath, make, say } from "./page.js";
import { ask } from "./report_ask.js";

const get = (id) => document.getElementById(id);
let shown = null;

export async function showScreenshots(uid, version, artifacts) {
  if (shown === version || !artifacts.some((one) => one.name === "screenshots.zip")) return;
  shown = version;
  get("screenshots").hidden = false;
  try {
    const { names } = await ask(`${analysisPath(uid)}/screenshots`);
    say(get("screenshots-status"), names.length === 0 ? "The zip has none." : "");
    get("screenshots-list").replaceChildren(...names.map((name, place) => {
      const path = `${analysisPath(uid)}/screenshot/${encodeURIComponent(name)}`;
      const image = make("img", "", [], { src: path, loading: "lazy", alt: `Screenshot ${place + 1} of ${names.length}` });
      return make("li", "", make("figure", "", [image, make("figcaption", "", name)]));
    }));
  } catch (error) {
    say(get("screenshots-status"), error.message);
  }
}
