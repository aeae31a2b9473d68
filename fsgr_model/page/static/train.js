// The tab Train: curves of this project and of its experiments, and the runs under way.
import { ask, el } from "./dom.js";
import { plot } from "./plot.js";

const SECONDS = 3;
const OLD_SECONDS = 120;

export async function showTrain(main, about) {
  if (!about.project) {
    main.append(el("p", {}, "An exported model has no curves: open this page in a project."));
    return;
  }
  const train = new Train(await ask("/api/revisions"));
  main.append(train.live, el("h2", {}, "Curves"), train.choice(), train.notes, train.plots);
  await train.look();
  return { leave: () => train.leave() };
}

class Train {
  constructor(revisions) {
    this.revisions = revisions;
    this.chosen = new Set(["workspace"]);
    this.curves = new Map();
    this.live = el("section", { "aria-label": "runs under way" });
    this.notes = el("div", { "aria-live": "polite" });
    this.plots = el("div", { class: "plots" });
  }

  choice() {
    const boxes = this.revisions.map((name) => el("label", {}, el("input", {
      type: "checkbox", checked: this.chosen.has(name),
      change: (event) => {
        if (event.target.checked) this.chosen.add(name);
        else this.chosen.delete(name);
        this.fetch();
      },
    }), ` ${name}`));
    return el("fieldset", {}, el("legend", {}, "of"), ...boxes);
  }

  /** The runs under way, again and again, and the curves of the working tree, which grow. */
  async look() {
    try {
      this.showLive(await ask("/api/live"));
      this.curves.delete("workspace");
      await this.fetch();
    } catch (error) {
      this.live.replaceChildren(el("p", { class: "bad" }, error.message));
    }
    if (!this.left) this.timer = setTimeout(() => this.look(), 1000 * SECONDS);
  }

  leave() {
    this.left = true;
    clearTimeout(this.timer);
  }

  async fetch() {
    const notes = [];
    for (const name of this.chosen) {
      if (this.curves.has(name)) continue;
      try {
        this.curves.set(name, await ask(`/api/curves?revision=${encodeURIComponent(name)}`));
      } catch (error) {
        notes.push(el("p", { class: "quiet" }, `${name}: ${error.message}`));
      }
    }
    this.notes.replaceChildren(...notes);
    this.draw();
  }

  draw() {
    const plots = new Map(); // "xe val_CIDEr" -> lines
    for (const name of this.chosen) {
      for (const [stage, columns] of Object.entries(this.curves.get(name) ?? {})) {
        for (const [key, values] of Object.entries(columns)) {
          if (key === "epoch") continue;
          const title = `${stage}: ${key}`;
          plots.set(title, [...(plots.get(title) ?? []), { name, x: columns.epoch, y: values }]);
        }
      }
    }
    const now = JSON.stringify([...plots]);
    if (now === this.drawn) return;
    this.drawn = now;
    // The score that chooses the best epoch comes first.
    const order = ([a], [b]) => b.endsWith("val_CIDEr") - a.endsWith("val_CIDEr");
    this.plots.replaceChildren(...[...plots].sort(order).map(([title, lines]) => plot(title, lines)));
  }

  showLive(runs) {
    const shown = runs.map((run) => {
      const silent = Date.now() / 1000 - run.written_at;
      const share = Math.min(1, run.done / run.epochs);
      const last = run.history.at(-1) ?? {};
      const said = Object.entries(last).filter(([, value]) => value !== null)
        .map(([key, value]) => `${key} ${Number(value.toPrecision(4))}`);
      const samples = run.samples.map(({ image_id: id, caption }) => el("li", {}, `${id}: ${caption}`));
      return el(
        "div", { class: "card" },
        el("h2", {}, `${run.task}, ${run.run}`),
        el("progress", { value: share, max: 1, "aria-label": `${run.task}: epochs done` }),
        el("p", {}, `${run.done.toFixed(1)} of ${run.epochs} epochs; `
          + (run.seconds_left === null ? "time left unknown" : `at most ${duration(run.seconds_left)} left`)),
        silent > OLD_SECONDS ? el("p", { class: "bad" }, `It has said nothing for ${duration(silent)}: it may have been stopped.`) : null,
        el("p", { class: "quiet" }, said.join(", ")),
        ...run.warnings.map((warning) => el("p", { class: "bad" }, warning)),
        samples.length ? el("p", {}, "Captions of the last validation:") : null,
        samples.length ? el("ul", {}, ...samples) : null,
      );
    });
    this.live.replaceChildren(el("h2", {}, runs.length ? "Under way" : "No run is under way."), ...shown);
  }
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
