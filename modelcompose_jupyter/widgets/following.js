/** Boxes that are read from their beginning to their end. */

const NEAR_END = 24; // pixels; who reads the end wants to see what comes

/** A box that follows the end of what is in it, unless somebody reads. */
export class Following {
  constructor(box) {
    this.box = box;
    this.following = true;
    box.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = box;
      this.following = scrollHeight - scrollTop - clientHeight < NEAR_END;
    });
  }

  follow() {
    const selection = document.getSelection();
    const reading = !selection.isCollapsed && this.box.contains(selection.anchorNode);
    if (this.following && !reading) this.box.scrollTop = this.box.scrollHeight;
  }
}
