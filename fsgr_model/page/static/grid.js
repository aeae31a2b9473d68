// A grid of any length: only the tiles near what is seen exist.

const GAP = 12;
const TILE = { width: 184, height: 224 };
const ROWS_BEYOND = 2;
// A picture is asked for when its tile has been there so long: one that flies by is not.
const PICTURE_MS = 100;

export class Grid {
  /**
   * `make(index)` gives the tile of a place; tiles are links, so they can be reached by the keyboard. The address of
   * a tile's picture is its `data-src`.
   */
  constructor(make, label) {
    this.make = make;
    this.tiles = new Map();
    this.length = 0;
    this.room = document.createElement("div");
    this.room.className = "room";
    this.element = document.createElement("div");
    this.element.className = "grid";
    this.element.setAttribute("role", "region");
    this.element.setAttribute("aria-label", label);
    this.element.tabIndex = 0;
    this.element.append(this.room);
    this.element.addEventListener("scroll", () => this.draw(PICTURE_MS), { passive: true });
    this.observer = new ResizeObserver(() => this.layOut());
    this.observer.observe(this.element);
  }

  /** Show so many tiles, from the top. */
  fill(length) {
    this.length = length;
    this.element.scrollTop = 0;
    this.columns = 0; // no tile stays
    this.layOut();
  }

  leave() {
    this.observer.disconnect();
  }

  layOut() {
    const columns = Math.max(1, Math.floor((this.element.clientWidth + GAP) / (TILE.width + GAP)));
    this.room.style.height = `${Math.ceil(this.length / columns) * (TILE.height + GAP)}px`;
    if (columns === this.columns) return this.draw();
    const focused = this.columns && this.room.contains(document.activeElement) ? document.activeElement : null;
    this.columns = columns;
    this.room.replaceChildren();
    this.tiles.clear();
    this.draw();
    if (focused) this.tiles.get(Number(focused.dataset.index))?.focus({ preventScroll: true });
  }

  draw(wait = 0) {
    const step = TILE.height + GAP;
    const top = Math.floor(this.element.scrollTop / step) - ROWS_BEYOND;
    const bottom = Math.ceil((this.element.scrollTop + this.element.clientHeight) / step) + ROWS_BEYOND;
    const first = Math.max(0, top * this.columns);
    const last = Math.min(this.length, bottom * this.columns);
    for (const [index, tile] of this.tiles) {
      if ((index < first || index >= last) && tile !== document.activeElement) {
        tile.remove();
        this.tiles.delete(index);
      }
    }
    for (let index = first; index < last; index += 1) if (!this.tiles.has(index)) this.add(index, wait);
  }

  add(index, wait) {
    const tile = this.make(index);
    const image = tile.querySelector("img");
    const show = () => {
      if (tile.isConnected) image.src = image.dataset.src;
    };
    if (wait) setTimeout(show, wait);
    else image.src = image.dataset.src;
    const [row, column] = [Math.floor(index / this.columns), index % this.columns];
    tile.style.transform = `translate(${column * (TILE.width + GAP)}px, ${row * (TILE.height + GAP)}px)`;
    tile.dataset.index = index;
    this.tiles.set(index, tile);
    // In the order of their places, so that the keyboard goes through them as the eye does.
    const following = [...this.room.children].find((other) => Number(other.dataset.index) > index);
    this.room.insertBefore(tile, following ?? null);
  }
}
