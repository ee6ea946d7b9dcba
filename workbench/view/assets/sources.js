// Where answers come from: the kernel, or the page itself. Both take a question and promise { ...facts, columns }.

import { decode } from "./arrow.js";

/** Asks the kernel through a widget's model. */
export class KernelSource {
  constructor(model) {
    this.model = model;
    this.waiting = new Map();
    this.next = 1;
    this.hear = (message, buffers) => this.receive(message, buffers);
    model.on("msg:custom", this.hear);
  }

  ask(question) {
    const id = `${this.model.model_id ?? ""}${this.next++}`;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.model.send({ ...question, id });
    });
  }

  receive(message, buffers) {
    const waits = this.waiting.get(message.id);
    if (!waits) return;
    this.waiting.delete(message.id);
    if (message.error) waits.reject(new Error(message.error));
    else waits.resolve({ ...message, columns: decode(message.columns, buffers) });
  }

  close() {
    this.model.off("msg:custom", this.hear);
  }
}

/** Keeps only the newest question of its kind under way: while one is, the next waits, and is replaced by a newer. */
export class Latest {
  constructor(source) {
    this.source = source;
    this.isBusy = false;
    this.pending = null;
  }

  ask(question, use, fail) {
    if (this.isBusy) {
      this.pending = [question, use, fail];
      return;
    }
    this.isBusy = true;
    this.source
      .ask(question)
      .then(use, fail)
      .finally(() => {
        this.isBusy = false;
        const { pending } = this;
        this.pending = null;
        if (pending) this.ask(...pending);
      });
  }
}
